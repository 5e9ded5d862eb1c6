"""Sending: at least once, with pauses, one receiver apart from the other."""

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, PermanentError, TemporaryError
from beidou.base.models import AuditEntry
from clusters.models import ClusterGroupObjectPermission
from notifications.models import Delivery
from notifications.services import routing, sending
from notifications.services.messenger import Messenger
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "a secret of the webhook"


def webhook(web_receiver, **values):
    return factories.make_receiver(
        **{"channel": "webhook", "webhook_url": web_receiver.url, "secret": SECRET, **values}
    )


def claim(now=None):
    (job,) = sending.claim_due(most=10, now=now)
    return job


def ended(error, **values) -> Delivery:
    """A message whose try ended so."""
    delivery = factories.make_delivery(**values)
    job = claim()
    sending.settle(delivery_id=job.delivery_id, number=job.number, error=error)
    delivery.refresh_from_db()
    return delivery


def test_a_message_is_claimed_once(mail_server):
    factories.make_delivery()
    assert len(sending.claim_due(most=10)) == 1
    assert sending.claim_due(most=10) == []


def test_a_message_that_went_well_is_sent(mail_server):
    delivery = ended(None)
    assert (delivery.status, delivery.tries, delivery.last_error) == ("sent", 1, "")
    assert delivery.sent_at is not None


def test_what_may_go_well_later_is_tried_again_a_minute_later_at_the_earliest(mail_server):
    delivery = ended(TemporaryError("The mail server is away."))
    assert (delivery.status, delivery.last_error) == ("failed", "The mail server is away.")
    pause = delivery.next_try_at - timezone.now()
    assert timedelta(seconds=59) < pause < timedelta(seconds=76)
    assert sending.claim_due(most=10) == []
    assert claim(now=delivery.next_try_at).number == 2


def test_the_pauses_grow_and_the_receiver_may_ask_for_longer_ones():
    def pause(number, retry_after=0.0):
        return sending._pause(number, TemporaryError("later", retry_after=retry_after))

    assert 60 <= pause(1) <= 75
    assert 480 <= pause(4) <= 600
    assert 3600 <= pause(30) <= 4500
    assert 600 <= pause(1, retry_after=600) <= 750


def test_it_is_given_up_after_the_last_try(mail_server):
    delivery = ended(TemporaryError("still away"), tries=sending.TRIES - 1)
    assert (delivery.status, delivery.tries) == ("given_up", sending.TRIES)


def test_what_was_refused_for_good_is_given_up_at_once(mail_server):
    assert ended(PermanentError("no such mailbox")).status == "given_up"


def test_an_error_of_the_portal_is_tried_again(mail_server):
    delivery = ended(ZeroDivisionError())
    assert delivery.status == "failed"
    assert delivery.last_error == "An error of the portal: ZeroDivisionError."


def test_the_result_of_a_try_that_was_taken_over_is_not_written(mail_server):
    delivery = factories.make_delivery()
    late = claim()
    sending.sweep(now=timezone.now() + sending.LEASE + timedelta(seconds=1))
    claim(now=timezone.now() + timedelta(minutes=6))
    sending.settle(delivery_id=late.delivery_id, number=late.number, error=PermanentError("late"))
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries) == ("sending", 2)


def test_what_a_killed_process_held_is_sent_by_the_next_with_the_same_key(web_receiver):
    delivery = factories.make_delivery(webhook(web_receiver))
    claim().send()  # and here it is killed, before it could write that it was sent
    later = timezone.now() + sending.LEASE + timedelta(seconds=1)
    assert sending.claim_due(most=10, now=later) == []
    assert sending.sweep(now=later) == 1
    claim(now=later).send()
    keys = {request.headers["Beidou-Delivery"] for request in web_receiver.requests}
    assert keys == {str(delivery.key)}
    assert len(web_receiver.requests) == 2


def test_what_kills_each_process_is_given_up(mail_server):
    delivery = factories.make_delivery(tries=sending.TRIES - 1)
    claim()
    sending.sweep(now=timezone.now() + sending.LEASE + timedelta(seconds=1))
    delivery.refresh_from_db()
    assert delivery.status == "given_up"
    assert "was lost" in delivery.last_error


def test_no_more_than_five_are_tried_within_a_minute(mail_server):
    receiver = factories.make_receiver()
    for _number in range(8):
        factories.make_delivery(receiver)
    now = timezone.now()
    for second in range(59):
        sending.claim_due(most=10, now=now + timedelta(seconds=second))
    assert Delivery.objects.filter(status="sending").count() == routing.PER_MINUTE
    assert claim(now=now + timedelta(seconds=61))


def test_a_receiver_that_has_had_enough_keeps_no_other_waiting(mail_server):
    full, other = factories.make_receiver(), factories.make_receiver()
    for _number in range(routing.PER_MINUTE):
        factories.make_delivery(full, status="sent", tried_at=timezone.now())
    factories.make_delivery(full)
    factories.make_delivery(other)
    assert [job.receiver_id for job in sending.claim_due(most=1)] == [other.pk]


def test_while_one_message_fails_the_later_ones_of_its_receiver_wait(mail_server):
    receiver = factories.make_receiver()
    later = timezone.now() + timedelta(minutes=3)
    failed = factories.make_delivery(receiver, status="failed", tries=1, next_try_at=later)
    factories.make_delivery(receiver)
    assert sending.claim_due(most=10) == []
    assert claim(now=later).delivery_id == failed.pk


def test_a_receiver_that_is_switched_off_is_sent_nothing(mail_server):
    factories.make_delivery(factories.make_receiver(enabled=False))
    assert sending.claim_due(most=10) == []


def test_what_the_team_may_no_longer_see_is_not_told_any_more(
    mail_server, viewers, cluster_a, cluster_b
):
    factories.grant(viewers, cluster_b, "viewer")
    receiver = factories.make_receiver(team=viewers)
    factories.make_rule(receiver, team=viewers)
    for _number in range(6):
        factories.make_notice("of the first", cluster=cluster_a)
        factories.make_notice("of the second", cluster=cluster_b)
    routing.route()
    ClusterGroupObjectPermission.objects.filter(content_object=cluster_b).delete()
    claim().send()
    (mail,) = mail_server.mails
    assert "6 notices" in mail["Subject"]
    assert "of the first" in mail.get_content()
    assert "of the second" not in mail.get_content()
    assert cluster_b.name not in mail.get_content()
    kept = Delivery.objects.get()
    assert kept.count == 6
    assert "of the second" not in str(kept.content)


def test_when_nothing_is_left_to_tell_nothing_is_sent(mail_server, viewers, cluster_a):
    receiver = factories.make_receiver(team=viewers)
    factories.make_rule(receiver, team=viewers)
    factories.make_notice(cluster=cluster_a)
    routing.route()
    ClusterGroupObjectPermission.objects.all().delete()
    assert sending.claim_due(most=10) == []
    delivery = Delivery.objects.get()
    assert delivery.status == "given_up"
    assert delivery.last_error == "The team may no longer see what this told of."


def test_without_a_mail_server_the_message_says_which_setting_is_missing(settings):
    settings.MAIL_SERVER = None
    delivery = factories.make_delivery()
    sending.claim_due(most=10)
    delivery.refresh_from_db()
    assert delivery.status == "given_up"
    assert "BEIDOU_EMAIL_URL" in delivery.last_error


def test_a_message_that_cannot_be_written_keeps_no_other_waiting(mail_server, caplog):
    broken = factories.make_delivery(content={"counts": [["k"]], "lines": []})
    good = factories.make_delivery()
    assert [job.delivery_id for job in sending.claim_due(most=10)] == [good.pk]
    broken.refresh_from_db()
    assert broken.status == "failed"
    assert "message_not_written" in caplog.text


# --- the messenger --------------------------------------------------------------------------------


def until(messenger: Messenger, condition) -> None:
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        messenger.tick()
        threading.Event().wait(0.01)
    assert condition()


def test_the_messenger_tells_what_was_published(web_receiver, cluster_a):
    receiver = webhook(web_receiver)
    factories.make_rule(receiver)
    factories.make_notice("the cluster is away", cluster=cluster_a)
    messenger = Messenger()
    until(messenger, lambda: Delivery.objects.filter(status="sent").exists())
    (request,) = web_receiver.requests
    assert b"the cluster is away" in request.body
    assert not messenger.is_sending


def test_a_receiver_that_hangs_delays_no_other(web_receiver, mail_server):
    web_receiver.released.clear()
    hanging = factories.make_delivery(webhook(web_receiver))
    prompt = factories.make_delivery()
    messenger = Messenger()
    until(messenger, lambda: Delivery.objects.get(pk=prompt.pk).status == "sent")
    assert web_receiver.reached.wait(10)
    assert Delivery.objects.get(pk=hanging.pk).status == "sending"
    web_receiver.released.set()
    messenger.finish(10)
    assert Delivery.objects.get(pk=hanging.pk).status == "sent"


def test_an_error_in_a_thread_is_settled(mail_server, settings, caplog):
    settings.MAIL_FROM = None
    delivery = factories.make_delivery()
    until(Messenger(), lambda: Delivery.objects.get(pk=delivery.pk).status == "failed")
    assert "message_failed" in caplog.text


# --- what people ask for --------------------------------------------------------------------------


def test_the_test_button_sends_at_once_and_keeps_the_result(admin, web_receiver):
    receiver = webhook(web_receiver, name="on call")
    delivery = sending.send_test(receiver=receiver, acting_user=admin)
    assert (delivery.status, delivery.is_test) == ("sent", True)
    assert b"Test message for on call." in web_receiver.requests[0].body
    receiver.refresh_from_db()
    assert receiver.test_result == "sent"
    entry = AuditEntry.objects.get(verb="send test message")
    assert (entry.object_name, entry.outcome) == ("on call", "done")


def test_a_test_that_fails_says_why_and_is_not_tried_again(admin, web_receiver):
    web_receiver.status, web_receiver.answer = 503, b"down for a while"
    receiver = webhook(web_receiver)
    delivery = sending.send_test(receiver=receiver, acting_user=admin)
    assert delivery.status == "given_up"
    assert "503. down for a while" in delivery.last_error
    receiver.refresh_from_db()
    assert receiver.test_result == delivery.last_error
    assert AuditEntry.objects.get(verb="send test message").outcome == "failed"


def test_who_may_only_look_sends_no_test(viewer, viewers, web_receiver):
    receiver = webhook(web_receiver, team=viewers)
    with pytest.raises(Forbidden):
        sending.send_test(receiver=receiver, acting_user=viewer)
    assert web_receiver.requests == []


def test_tests_count_towards_the_five_of_a_minute(admin, web_receiver):
    receiver = webhook(web_receiver)
    for _number in range(routing.PER_MINUTE):
        sending.send_test(receiver=receiver, acting_user=admin)
    with pytest.raises(Conflict, match="wait a moment"):
        sending.send_test(receiver=receiver, acting_user=admin)


def test_a_message_that_was_given_up_can_be_sent_again(admin, mail_server):
    delivery = factories.make_delivery(status="given_up", tries=8, last_error="no such mailbox")
    sending.send_again(delivery=delivery, acting_user=admin)
    job = claim()
    job.send()
    sending.settle(delivery_id=job.delivery_id, number=job.number, error=None)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.last_error) == ("sent", "")
    assert mail_server.mails[0]["Beidou-Delivery"] == str(delivery.key)
    assert AuditEntry.objects.filter(verb="send again").exists()


def test_a_message_that_is_on_its_way_is_not_sent_again(admin, mail_server):
    delivery = factories.make_delivery()
    claim()
    with pytest.raises(Conflict, match="has not ended"):
        sending.send_again(delivery=delivery, acting_user=admin)


def failed_long_ago(receiver, **values):
    """It is tried again in an hour."""
    now = timezone.now()
    return factories.make_delivery(
        receiver,
        **{
            "status": "failed",
            "tries": 6,
            "tried_at": now - timedelta(minutes=5),
            "next_try_at": now + timedelta(hours=1),
            **values,
        },
    )


def test_a_failed_message_can_be_sent_again_without_its_pause_and_stays_what_it_is(
    admin, mail_server
):
    failed = failed_long_ago(factories.make_receiver())
    sending.send_again(delivery=failed, acting_user=admin)
    assert (failed.status, failed.tries) == ("failed", 6)
    assert claim().delivery_id == failed.pk


def test_a_test_that_succeeds_has_what_failed_tried_at_once(admin, web_receiver):
    failed = failed_long_ago(webhook(web_receiver))
    sending.send_test(receiver=failed.receiver, acting_user=admin)
    assert claim().delivery_id == failed.pk


def test_a_test_that_fails_leaves_what_failed_to_its_pause(admin, web_receiver):
    failed = failed_long_ago(webhook(web_receiver))
    web_receiver.status = 503
    sending.send_test(receiver=failed.receiver, acting_user=admin)
    assert sending.claim_due(most=10) == []


def test_what_is_hurried_is_tried_a_minute_after_its_last_try_at_the_earliest(mail_server):
    receiver, now = factories.make_receiver(), timezone.now()
    failed_long_ago(receiver, tried_at=now - timedelta(seconds=20))
    sending.hurry(receiver)
    assert sending.claim_due(most=10, now=now + timedelta(seconds=39)) == []
    assert claim(now=now + timedelta(seconds=41))


def test_what_was_sent_is_sent_again_a_minute_later_at_the_earliest(admin, mail_server):
    """Sooner its first try would be counted no more, and the five of a minute have no end."""
    now = timezone.now()
    sent = factories.make_delivery(status="sent", tries=1, tried_at=now, sent_at=now)
    sending.send_again(delivery=sent, acting_user=admin)
    assert sending.claim_due(most=10, now=now + timedelta(seconds=59)) == []
    assert claim(now=now + timedelta(seconds=61)).delivery_id == sent.pk


def sent_long_ago():
    then = timezone.now() - timedelta(minutes=5)
    return factories.make_delivery(status="sent", tries=1, tried_at=then, sent_at=then)


def seen_by_two(delivery):
    return [Delivery.objects.get(pk=delivery.pk) for _person in range(2)]


def test_of_two_who_send_a_message_again_at_once_one_does(admin, mail_server):
    one, other = seen_by_two(sent_long_ago())
    sending.send_again(delivery=one, acting_user=admin)
    with pytest.raises(Conflict, match="in the same moment"):
        sending.send_again(delivery=other, acting_user=admin)
    assert AuditEntry.objects.filter(verb="send again").count() == 1


def test_nor_does_the_other_when_it_has_been_sent_by_then(admin, mail_server):
    one, other = seen_by_two(sent_long_ago())
    sending.send_again(delivery=one, acting_user=admin)
    send(claim())
    with pytest.raises(Conflict, match="in the same moment"):
        sending.send_again(delivery=other, acting_user=admin)
    assert Delivery.objects.get().status == "sent"


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_failed_message_that_the_messenger_tries_in_the_same_moment_is_left_to_it(
    is_sent, admin, mail_server
):
    failed = failed_long_ago(factories.make_receiver(), next_try_at=timezone.now())
    job = claim()
    if is_sent:
        send(job)
    with pytest.raises(Conflict, match="in the same moment"):
        sending.send_again(delivery=failed, acting_user=admin)
    assert Delivery.objects.get().status == ("sent" if is_sent else "sending")


def send(job):
    job.send()
    sending.settle(delivery_id=job.delivery_id, number=job.number, error=None)
