"""Sign-in, the account of the signed-in user, and what monitoring asks for."""

from django.urls import path

from beidou.base import account, monitoring, signin

urlpatterns = [
    path("login/", signin.SignInView.as_view()),
    path("login/code/", signin.SecondFactorView.as_view(), name="sign_in_code"),
    path("password_change/", account.OwnPasswordView.as_view()),
    path("account/", account.AccountView.as_view(), name="account"),
    path("account/language/", account.LanguageView.as_view(), name="account_language"),
    path("account/tokens/", account.TokenCreateView.as_view(), name="account_token_create"),
    path(
        "account/tokens/<int:pk>/revoke/",
        account.TokenRevokeView.as_view(),
        name="account_token_revoke",
    ),
    path(
        "account/second-factor/",
        account.SecondFactorOnView.as_view(),
        name="account_second_factor_on",
    ),
    path(
        "account/second-factor/off/",
        account.SecondFactorChangeView.as_view(change="off"),
        name="account_second_factor_off",
    ),
    path(
        "account/second-factor/codes/",
        account.SecondFactorChangeView.as_view(change="codes"),
        name="account_backup_codes",
    ),
    path("healthz", monitoring.healthz, name="healthz"),
    path("readyz", monitoring.readyz, name="readyz"),
    path("metrics", monitoring.metrics, name="metrics"),
]
