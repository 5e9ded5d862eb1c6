"""Bootstrap tokens: made for one attempt, and none is left behind by a worker that was killed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from operations.kinds import base as kinds
from operations.kinds import join_tokens
from operations.kinds.scale_up import SCALE_UP
from operations.models import Attempt, Operation, OutputChunk, Step
from operations.services import engine, recovery
from operations.services.run import EngineRun
from tests.clusters.conftest import connect
from tests.fakes.kube_api import FakeKubeApi, Reply, status_reply

pytestmark = pytest.mark.django_db

SECRETS = "/api/v1/namespaces/kube-system/secrets"


class Tokens:
    """The Secrets of a cluster that lets one create and delete them, and nothing else."""

    def __init__(self, api: FakeKubeApi) -> None:
        self.api = api
        self.present: dict[str, object] = {}
        api.on("POST", SECRETS, self._create)

    def _create(self, request):
        name = request.body["metadata"]["name"]
        if name in self.present:
            return status_reply(409, "already exists")
        self.present[name] = request.body
        self.api.on("DELETE", f"{SECRETS}/{name}", self._delete)
        return Reply(status=201)

    def _delete(self, request):
        if self.present.pop(request.path.rsplit("/", 1)[1], None) is None:
            return status_reply(404, "not found")
        return Reply()


@pytest.fixture
def api(cluster_a):
    with FakeKubeApi() as api:
        connect(cluster_a, api)
        yield api


@pytest.fixture
def tokens(api):
    return Tokens(api)


@pytest.fixture
def attempt(toy, begin, work, cluster_a):
    """The next attempt of one step, each by a worker of its own."""
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")

    def begin_attempt() -> EngineRun:
        if Step.objects.get(pk=step.pk).status == Step.Status.RUNNING:
            found = Attempt.objects.get(step=step, outcome=Attempt.Outcome.RUNNING)
            recovery._put_back(Step.objects.get(pk=step.pk), found, recovery.LOST)
        claimed = engine.claim(step.pk)
        kind = kinds.KINDS["Toy"]
        return EngineRun(attempt=claimed, kind=kind, step_kind=kind.step("first"))

    return begin_attempt


def killed(run: EngineRun) -> None:
    """Make a token and die: nothing behind that point is done."""
    with join_tokens.client_for(run.cluster) as client:
        client.create_bootstrap_token(
            ttl=timedelta(hours=1),
            description="",
            token_id=join_tokens._token_id(run, run.number),
        )


def said(run: EngineRun) -> str:
    run.output.flush()
    return "".join(OutputChunk.objects.order_by("first").values_list("lines", flat=True))


def test_a_token_is_gone_when_the_step_ends(attempt, tokens):
    run = attempt()
    with join_tokens.client_for(run.cluster) as client, join_tokens.token(run, client) as token:
        (secret,) = tokens.present.values()
        assert token.startswith(secret["stringData"]["token-id"])
        assert secret["stringData"]["description"].endswith(", attempt 1")
    assert not tokens.present
    assert "The bootstrap token was revoked." in said(run)


def test_the_token_of_a_killed_worker_goes_with_the_next_attempt(attempt, tokens):
    killed(attempt())
    run = attempt()
    with join_tokens.client_for(run.cluster) as client, join_tokens.token(run, client):
        assert len(tokens.present) == 2  # a join that is rejoined still needs the old one
    assert not tokens.present
    assert "The bootstrap token of attempt 1 was revoked." in said(run)


def test_attempts_whose_tokens_have_expired_are_not_asked_for(attempt, tokens, api):
    killed(attempt())
    Attempt.objects.update(started_at=timezone.now() - timedelta(days=1))
    run = attempt()
    with join_tokens.client_for(run.cluster) as client, join_tokens.token(run, client):
        pass
    assert len([each for each in api.requests if each.method == "DELETE"]) == 1


def test_a_step_that_is_given_up_leaves_no_token(attempt, tokens):
    killed(attempt())
    run = attempt()
    killed(run)
    join_tokens.revoke_all(run)
    assert not tokens.present


def test_what_cannot_be_revoked_is_said_and_stops_nothing(attempt, tokens, api):
    run = attempt()
    with join_tokens.client_for(run.cluster) as client, join_tokens.token(run, client):
        (name,) = tokens.present
        api.on("DELETE", f"{SECRETS}/{name}", status_reply(403, "no"))
    text = said(run)
    assert "could not be revoked and expires by itself" in text
    assert '"warning"' in text


def test_a_cluster_that_is_away_does_not_block_the_clean_up(attempt, cluster_a):
    with FakeKubeApi() as api:
        connect(cluster_a, api)
    run = attempt()
    join_tokens.revoke_all(run)
    assert "could not be revoked" in said(run)


def test_a_cluster_without_credential_does_not_block_the_clean_up(attempt, cluster_a):
    run = attempt()
    join_tokens.revoke_all(run)
    assert "could not be looked for" in said(run)


def test_scale_up_cleans_its_tokens_up():
    assert SCALE_UP.step("scaleUp").cleanup.__name__ == "stop_joining"


def test_a_step_that_is_given_up_is_cleaned_up(toy, begin, work, control):
    operation = begin()
    work(limit=2)
    step = operation.steps.get(name="second")
    engine.claim(step.pk)
    Step.objects.filter(pk=step.pk).update(
        losses=recovery.MAX_LOSSES - 1, lease_until=timezone.now() - timedelta(seconds=1)
    )
    control(recovery.reap)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert toy.cleaned == ["second"]


def test_a_step_that_is_done_again_is_not_cleaned_up(toy, begin, work, control):
    operation = begin()
    work(limit=2)
    step = operation.steps.get(name="second")
    engine.claim(step.pk)
    Step.objects.filter(pk=step.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    control(recovery.reap)
    assert toy.cleaned == []
