"""Machines: hosts with a lifecycle, known before and after they are nodes.

Intended values are what people wrote; observed facts are what a visit over SSH found; their
difference is drift.  The state is changed by ``change_status`` only.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from beidou.base.fields import EncryptedTextField
from beidou.base.folded import Folded
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField
from beidou.base.state import Stateful, StatusChange
from clusters.models import Cluster, Node
from machines.address_key import AddressKey
from machines.prefix import Prefix

models.Field.register_lookup(Prefix)

# Far beyond any host: a slip of the finger is refused, also by a database that would take it.
CPUS_MAX = 65_536
MEMORY_MIB_MAX = 1 << 30

# What people call a machine; searched whatever its case.
FOLDED = ("hostname", "serial", "asset_tag", "rack", "system_uuid")

_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


# RFC 1123, section 2.1, as Kubernetes asks of names of nodes, in any case of letters.
_HOSTNAME = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


_BROADCAST = ipaddress.ip_address("255.255.255.255")

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def valid_hostname(value: str) -> None:
    """``ValidationError`` unless a host can be called so."""
    if not _HOSTNAME.fullmatch(value):
        raise ValidationError(_("A hostname has letters, digits, dots and inner hyphens only."))


def valid_address(value: str) -> None:
    """``ValidationError`` when no other host can be at this address."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return  # the field itself says so
    if (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == _BROADCAST
    ):
        raise ValidationError(_("No machine can be reached at this address."))


def valid_system_uuid(value: str) -> None:
    """``ValidationError`` unless firmware can report this, in whichever case of letters."""
    if not _UUID.fullmatch(value):
        raise ValidationError(
            _("A system UUID is written as 4c4c4544-0042-4a10-8056-b4c04f4e5032.")
        )


def validate_labels(value: Any) -> None:
    """Labels are an object of texts, with keys and values as Kubernetes allows them."""
    if not isinstance(value, dict):
        raise ValidationError(_('Labels are written as an object: {"key": "value"}.'))
    for key, text in value.items():
        if not _LABEL_KEY.fullmatch(str(key)):
            raise ValidationError(
                _("“%(key)s” is no label key: letters, digits, . _ - and an optional prefix/."),
                params={"key": key},
            )
        if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
            raise ValidationError(
                _("The value of label “%(key)s” must be at most 63 letters, digits, . _ -."),
                params={"key": key},
            )


class SshCredential(models.Model):
    """How to sign in at machines; the secrets are encrypted and never shown again."""

    access = Access(team="team")

    name = models.CharField(_("name"), max_length=100, unique=True)
    team = models.ForeignKey(
        Group,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("team"),
        help_text=_("Who may use it; empty: administrators alone."),
    )
    user = models.CharField(_("user"), max_length=64, default="root")
    port = models.PositiveIntegerField(
        _("port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    private_key = EncryptedTextField(_("private key"))
    passphrase = EncryptedTextField(_("passphrase of the key"))
    password = EncryptedTextField(_("password"))
    become = models.BooleanField(
        _("use sudo"), default=False, help_text=_("Become root by sudo after signing in.")
    )
    become_password = EncryptedTextField(_("password for sudo"))
    tested_at = models.DateTimeField(_("last tested"), null=True, editable=False)
    test_result = SentenceField(_("result of the test"), limit=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("SSH credential")
        verbose_name_plural = _("SSH credentials")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class MachineQuerySet(models.QuerySet["Machine"]):
    """Questions about many machines."""

    def search(self, text: str) -> Self:
        """Machines one of whose names begins with ``text``, whatever its case.

        Names are every address (its own, those its visits found, those of its node), hostname,
        serial number, asset tag, rack, system UUID and node name.  Each is a range of an index,
        so the cost does not grow with the fleet; several words must all match.
        """
        found = self
        for word in text.split()[:5]:
            found = found.filter(_named(word))
        return found

    def free(self) -> Self:
        return self.filter(state__in=Machine.FREE)

    def in_cluster(self) -> Self:
        return self.filter(cluster__isnull=False)

    def faulty(self) -> Self:
        return self.filter(state__in=[Machine.State.FAULTY, Machine.State.MAINTENANCE])

    def drifting(self) -> Self:
        return self.filter(pk__in=Drift.objects.values("machine"))


def _named(word: str) -> Q:
    """A union of one query per index: for an OR a planner would walk the whole table."""
    whole_address = _address_in(word)  # means itself, not the ten that begin with it
    lookup = "exact" if whole_address else "prefix"
    word = whole_address or word
    # What machines and clusters report is stored in small letters: addresses and UUIDs.
    sources: list[tuple[type[models.Model], str, tuple[str, ...], tuple[str, ...]]] = [
        (Machine, "pk", ("address",), FOLDED),
        (MachineAddress, "machine", ("address",), ()),
        (MachineFacts, "machine", ("system_uuid",), ("hostname",)),
        (Node, "machine", ("internal_ip", "system_uuid"), ("name",)),
    ]
    found: list[models.QuerySet[Any, Any]] = []
    for model, key, small, folded in sources:
        rows = model._default_manager.order_by()
        if model is Node:
            rows = rows.filter(machine__isnull=False)
        matches = {f"{field}__{lookup}": word.lower() for field in small}
        matches |= {f"{field}__folded__{lookup}": word for field in folded}
        found += [rows.filter(**{match: value}).values(key) for match, value in matches.items()]
    return Q(pk__in=found[0].union(*found[1:], all=True))


def _address_in(word: str) -> str | None:
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        return None


class Machine(Stateful):
    """A physical or virtual host.

    DISCOVERED -> AVAILABLE | IN_SERVICE               (in service: it already is a node)
    AVAILABLE -> RESERVED | RETIRED
    RESERVED -> JOINING | AVAILABLE
    JOINING -> IN_SERVICE | CORDONED | AVAILABLE
    IN_SERVICE -> CORDONED | DRAINING
    CORDONED -> IN_SERVICE | DRAINING
    DRAINING -> LEAVING | CORDONED
    LEAVING -> AVAILABLE
    any but RETIRED -> MAINTENANCE | FAULTY
    MAINTENANCE, FAULTY -> AVAILABLE | RESERVED | IN_SERVICE | CORDONED | RETIRED
    """

    access = Access(cluster="cluster", team="owner_team")
    STATUS_FIELD = "state"

    class State(models.TextChoices):
        DISCOVERED = "discovered", _("Discovered")
        AVAILABLE = "available", _("Available")
        RESERVED = "reserved", _("Reserved")
        JOINING = "joining", _("Joining")
        IN_SERVICE = "in_service", _("In service")
        CORDONED = "cordoned", _("Cordoned")
        DRAINING = "draining", _("Draining")
        LEAVING = "leaving", _("Leaving")
        MAINTENANCE = "maintenance", _("Maintenance")
        FAULTY = "faulty", _("Faulty")
        RETIRED = "retired", _("Retired")

    _ASIDE = frozenset({State.MAINTENANCE, State.FAULTY})
    _BACK = frozenset(
        {State.AVAILABLE, State.RESERVED, State.IN_SERVICE, State.CORDONED, State.RETIRED}
    )
    TRANSITIONS = {
        State.DISCOVERED: frozenset({State.AVAILABLE, State.IN_SERVICE}) | _ASIDE,
        State.AVAILABLE: frozenset({State.RESERVED, State.RETIRED}) | _ASIDE,
        State.RESERVED: frozenset({State.JOINING, State.AVAILABLE}) | _ASIDE,
        State.JOINING: frozenset({State.IN_SERVICE, State.CORDONED, State.AVAILABLE}) | _ASIDE,
        State.IN_SERVICE: frozenset({State.CORDONED, State.DRAINING}) | _ASIDE,
        State.CORDONED: frozenset({State.IN_SERVICE, State.DRAINING}) | _ASIDE,
        State.DRAINING: frozenset({State.LEAVING, State.CORDONED}) | _ASIDE,
        State.LEAVING: frozenset({State.AVAILABLE}) | _ASIDE,
        State.MAINTENANCE: _BACK | frozenset({State.FAULTY}),
        State.FAULTY: _BACK | frozenset({State.MAINTENANCE}),
        State.RETIRED: frozenset(),
    }
    FREE = frozenset({State.DISCOVERED, State.AVAILABLE})
    IN_CLUSTER = frozenset(
        {State.JOINING, State.IN_SERVICE, State.CORDONED, State.DRAINING, State.LEAVING}
    )

    # identity
    address = models.GenericIPAddressField(
        _("management address"), unique=True, unpack_ipv4=True, validators=[valid_address]
    )
    address_key = AddressKey()
    hostname = models.CharField(
        _("hostname"), max_length=253, blank=True, db_index=True, validators=[valid_hostname]
    )
    serial = models.CharField(_("serial number"), max_length=100, blank=True, db_index=True)
    asset_tag = models.CharField(_("asset tag"), max_length=100, blank=True, db_index=True)
    system_uuid = models.CharField(
        _("system UUID"),
        max_length=64,
        blank=True,
        db_index=True,
        validators=[valid_system_uuid],
    )
    # place and belonging
    room = models.CharField(_("room"), max_length=63, blank=True)
    rack = models.CharField(_("rack"), max_length=63, blank=True, db_index=True)
    position = models.CharField(_("position"), max_length=20, blank=True)
    owner_team = models.ForeignKey(
        Group, on_delete=models.SET_NULL, null=True, blank=True, verbose_name=_("owner team")
    )
    role = models.CharField(_("role"), max_length=63, blank=True, default="Compute")
    labels = models.JSONField(_("labels"), default=dict, blank=True, validators=[validate_labels])
    notes = models.TextField(_("notes"), blank=True)
    warranty_until = models.DateField(_("warranty until"), null=True, blank=True)
    # intended hardware and software; empty means: nothing was promised, so nothing can drift
    vendor = models.CharField(_("vendor"), max_length=100, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    cpus = models.PositiveIntegerField(
        _("CPUs"), null=True, blank=True, validators=[MaxValueValidator(CPUS_MAX)]
    )
    memory_mib = models.PositiveIntegerField(
        _("memory, MiB"), null=True, blank=True, validators=[MaxValueValidator(MEMORY_MIB_MAX)]
    )
    disks = models.CharField(
        _("disks"), max_length=300, blank=True, help_text=_("For example 2×960G, 4×8000G.")
    )
    nics = models.CharField(_("NICs"), max_length=300, blank=True)
    gpus = models.CharField(_("GPUs"), max_length=300, blank=True)
    os = models.CharField(_("operating system"), max_length=120, blank=True)
    kernel = models.CharField(_("kernel"), max_length=120, blank=True)
    # signing in
    credential = models.ForeignKey(
        SshCredential,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        verbose_name=_("SSH credential"),
        related_name="machines",
    )
    host_key = models.TextField(
        _("pinned host key"), blank=True, editable=False, help_text=_("type and key in base64")
    )
    offered_host_key = models.TextField(
        _("changed host key"),
        blank=True,
        editable=False,
        help_text=_(
            "Set when the machine showed another key than the pinned one; blocks everything."
        ),
    )
    host_key_at = models.DateTimeField(_("host key pinned"), null=True, editable=False)
    # lifecycle
    state = models.CharField(
        _("state"),
        max_length=12,
        choices=State.choices,
        default=State.DISCOVERED,
        editable=False,
        db_index=True,
    )
    state_since = models.DateTimeField(_("state since"), default=timezone.now, editable=False)
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="machines",
        verbose_name=_("cluster"),
    )
    node = models.OneToOneField(
        Node,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="machine",
        verbose_name=_("node"),
    )
    created_at = models.DateTimeField(_("added"), auto_now_add=True)

    objects = MachineQuerySet.as_manager()
    history = HistoricalRecords(
        excluded_fields=["address_key", "state", "state_since", "cluster", "node"],
        history_change_reason_field=SentenceField(limit=500, null=True),  # type: ignore[misc]
    )

    class Meta:
        verbose_name = _("machine")
        verbose_name_plural = _("machines")
        ordering = ["address_key"]
        constraints = [
            models.UniqueConstraint(
                fields=["serial"], condition=~Q(serial=""), name="serial_numbers_are_unique"
            )
        ]
        indexes = [
            models.Index(fields=["cluster", "state"]),
            models.Index(fields=["address_key"]),
            models.Index(fields=["state", "address_key"]),
            # What a team sees and in which order, without reading the rows: lists and their counts.
            models.Index(fields=["cluster", "owner_team", "address_key"]),
            *(models.Index(Folded(name), name=f"machines_folded_{name}") for name in FOLDED),
        ]

    def __str__(self) -> str:
        return f"{self.hostname} ({self.address})" if self.hostname else str(self.address)

    def save(self, *, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        if update_fields is not None and "address" in (update_fields := set(update_fields)):
            update_fields.add("address_key")
        super().save(update_fields=update_fields, **kwargs)

    _stored_uuid: str | None = None

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        machine = super().from_db(*args, **kwargs)
        machine._stored_uuid = machine.__dict__.get("system_uuid")
        return machine

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """A system UUID that people write is one, and is stored in small letters, as inventory and
        visits store theirs.  What is stored already stays: a kubelet reports a machine id or a
        serial number where the firmware has no UUID, and other fields can be edited all the same.
        """
        excluded = set(exclude or ())
        if self.system_uuid == self._stored_uuid:
            excluded.add("system_uuid")
        elif "system_uuid" not in excluded:
            self.system_uuid = self.system_uuid.lower()
        super().clean_fields(exclude=excluded)


class MachineStatusChange(StatusChange):
    """One transition in a machine's life; ``operation`` is the key of the operation that caused
    it."""

    access = Access(cluster="subject__cluster", team="subject__owner_team")
    subject = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="status_changes")
    operation = models.BigIntegerField(_("operation"), null=True, db_index=True)


class MachineFacts(models.Model):
    """What the last visit over SSH found, whole; and what kept the last visit from succeeding."""

    access = Access(cluster="machine__cluster", team="machine__owner_team")
    machine = models.OneToOneField(Machine, on_delete=models.CASCADE, related_name="facts")
    facts = models.JSONField(_("facts"), default=dict)
    gathered_at = models.DateTimeField(_("gathered"), null=True)
    hostname = models.CharField(_("hostname"), max_length=253, blank=True, db_index=True)
    system_uuid = models.CharField(_("system UUID"), max_length=64, blank=True, db_index=True)
    os_machine_id = models.CharField(
        _("machine id"),
        max_length=64,
        blank=True,
        db_index=True,
        help_text=_("What a kubelet reports as system UUID where the firmware has none."),
    )
    error = SentenceField(_("error"), limit=500, blank=True)
    failed_at = models.DateTimeField(_("failed"), null=True)

    class Meta:
        verbose_name = _("facts")
        verbose_name_plural = _("facts")
        indexes = [models.Index(Folded("hostname"), name="facts_folded_hostname")]

    def __str__(self) -> str:
        return f"facts of {self.machine_id}"


class MachineAddress(models.Model):
    """An address that a visit found on one of the machine's interfaces."""

    access = Access(cluster="machine__cluster", team="machine__owner_team")
    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="addresses")
    address = models.CharField(_("address"), max_length=45, db_index=True)
    interface = models.CharField(_("interface"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("address of a machine")
        verbose_name_plural = _("addresses of machines")
        constraints = [
            models.UniqueConstraint(
                fields=["machine", "address"], name="an_address_once_per_machine"
            )
        ]

    def __str__(self) -> str:
        return self.address


class Drift(models.Model):
    """One field on which a machine is not what it is meant to be.

    ``accept`` makes the observed value the intended one; ``wrong`` keeps the intended value and
    says that the machine must be mended; the row goes when both agree again.
    """

    class Verdict(models.TextChoices):
        OPEN = "open", _("not judged")
        WRONG = "wrong", _("machine is wrong")

    access = Access(cluster="machine__cluster", team="machine__owner_team")
    FIELDS: ClassVar[tuple[str, ...]] = (
        "hostname",
        "serial",
        "vendor",
        "model",
        "cpus",
        "memory_mib",
        "disks",
        "nics",
        "gpus",
        "os",
        "kernel",
        "system_uuid",
    )

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="drift")
    field = models.CharField(_("field"), max_length=30)
    intended = models.CharField(_("intended"), max_length=300, blank=True)
    observed = models.CharField(_("observed"), max_length=300, blank=True)
    verdict = models.CharField(
        _("verdict"), max_length=8, choices=Verdict.choices, default=Verdict.OPEN
    )
    first_seen = models.DateTimeField(_("since"), default=timezone.now)
    last_seen = models.DateTimeField(_("last seen"), default=timezone.now)

    class Meta:
        verbose_name = _("drift")
        verbose_name_plural = _("drift")
        ordering = ["machine", "field"]
        constraints = [
            models.UniqueConstraint(fields=["machine", "field"], name="one_drift_per_field")
        ]

    def __str__(self) -> str:
        return f"{self.field}: {self.intended} ≠ {self.observed}"
