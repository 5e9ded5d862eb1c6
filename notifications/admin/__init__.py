"""The pages of rules, receivers, messages and notices; importing this registers them."""

from notifications.admin import delivery, notice, receiver, rule  # noqa: F401
