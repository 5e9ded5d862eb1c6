"""The table of events is made differently on each database; the model is the same on both.

On SQLite it is Django's own table with an FTS5 index beside it, kept by triggers.  On PostgreSQL it
is partitioned by day, so that a day goes at once, and the text index is a generated column.
"""

import django.db.models.deletion
from django.db import migrations, models

import beidou.base.sentence_fields

TEXT = ("reason", "kind", "namespace", "name", "node", "component", "message")

SQLITE = (
    f"""CREATE VIRTUAL TABLE events_text USING fts5(
        {", ".join(TEXT)}, content='events_event', content_rowid='id', tokenize='unicode61')""",
    f"""CREATE TRIGGER events_text_insert AFTER INSERT ON events_event BEGIN
        INSERT INTO events_text (rowid, {", ".join(TEXT)})
        VALUES (new.id, {", ".join(f"new.{name}" for name in TEXT)}); END""",
    f"""CREATE TRIGGER events_text_delete AFTER DELETE ON events_event BEGIN
        INSERT INTO events_text (events_text, rowid, {", ".join(TEXT)})
        VALUES ('delete', old.id, {", ".join(f"old.{name}" for name in TEXT)}); END""",
    # A repeated event changes its count and times only.
    f"""CREATE TRIGGER events_text_update AFTER UPDATE OF {", ".join(TEXT)} ON events_event
        WHEN {" OR ".join(f"old.{name} IS NOT new.{name}" for name in TEXT)} BEGIN
        INSERT INTO events_text (events_text, rowid, {", ".join(TEXT)})
        VALUES ('delete', old.id, {", ".join(f"old.{name}" for name in TEXT)});
        INSERT INTO events_text (rowid, {", ".join(TEXT)})
        VALUES (new.id, {", ".join(f"new.{name}" for name in TEXT)}); END""",
)

POSTGRESQL = (
    f"""CREATE TABLE events_event (
        id bigserial NOT NULL,
        day date NOT NULL,
        cluster_id bigint NOT NULL,
        uid varchar(128) NOT NULL,
        version bigint NOT NULL,
        first_seen timestamp with time zone NOT NULL,
        last_seen timestamp with time zone NOT NULL,
        count integer NOT NULL CHECK (count >= 0),
        type varchar(32) NOT NULL,
        reason varchar(128) NOT NULL,
        namespace varchar(253) NOT NULL,
        kind varchar(128) NOT NULL,
        name varchar(253) NOT NULL,
        object_uid varchar(128) NOT NULL,
        node varchar(253) NOT NULL,
        component varchar(253) NOT NULL,
        message text NOT NULL,
        raw bytea NOT NULL,
        text tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, regexp_replace(
            {" || ' ' || ".join(TEXT)}, '[^[:alnum:]]+', ' ', 'g'))) STORED,
        PRIMARY KEY (id, day),
        CONSTRAINT event_once UNIQUE (cluster_id, uid, day)
    ) PARTITION BY RANGE (day)""",
    "CREATE INDEX event_newest ON events_event (last_seen, id)",
    "CREATE INDEX event_newest_of_cluster ON events_event (cluster_id, last_seen, id)",
    "CREATE INDEX event_of_object ON events_event (cluster_id, name, last_seen)",
    "CREATE INDEX event_of_node ON events_event (node, last_seen) WHERE NOT (node = '')",
    "CREATE INDEX event_text ON events_event USING gin (text)",
    # For days of clocks that are years away.
    "CREATE TABLE events_event_other PARTITION OF events_event DEFAULT",
)


def make(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in POSTGRESQL:
            schema_editor.execute(statement)
        return
    schema_editor.create_model(apps.get_model("events", "Event"))
    for statement in SQLITE:
        schema_editor.execute(statement)


def unmake(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TABLE events_text")
    schema_editor.execute("DROP TABLE events_event")


EVENT = migrations.CreateModel(
    name="Event",
    fields=[
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        ("day", models.DateField(help_text="When it began, by the cluster's clock, in UTC.", verbose_name="day")),
        ("uid", models.CharField(max_length=128, verbose_name="UID")),
        ("version", models.BigIntegerField(verbose_name="resource version")),
        ("first_seen", models.DateTimeField(verbose_name="first seen")),
        ("last_seen", models.DateTimeField(verbose_name="last seen")),
        ("count", models.PositiveIntegerField(verbose_name="count")),
        ("type", models.CharField(max_length=32, verbose_name="type")),
        ("reason", models.CharField(max_length=128, verbose_name="reason")),
        ("namespace", models.CharField(max_length=253, verbose_name="namespace")),
        ("kind", models.CharField(max_length=128, verbose_name="kind")),
        ("name", models.CharField(max_length=253, verbose_name="object")),
        ("object_uid", models.CharField(max_length=128, verbose_name="UID of the object")),
        ("node", models.CharField(max_length=253, verbose_name="node")),
        ("component", models.CharField(max_length=253, verbose_name="component")),
        ("message", models.TextField(verbose_name="message")),
        ("raw", models.BinaryField(help_text="JSON, compressed by zlib.", verbose_name="whole object")),
        ("cluster", models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="clusters.cluster", verbose_name="cluster")),
    ],
    options={
        "verbose_name": "event",
        "verbose_name_plural": "events",
        "ordering": ["-last_seen", "-id"],
        "indexes": [
            models.Index(fields=["last_seen", "id"], name="event_newest"),
            models.Index(fields=["cluster", "last_seen", "id"], name="event_newest_of_cluster"),
            models.Index(fields=["cluster", "name", "last_seen"], name="event_of_object"),
            models.Index(condition=models.Q(("node", ""), _negated=True), fields=["node", "last_seen"], name="event_of_node"),
        ],
        "constraints": [models.UniqueConstraint(fields=("cluster", "uid", "day"), name="event_once")],
    },
)


class Migration(migrations.Migration):
    initial = True

    dependencies = [("clusters", "0006_deleted_clusters")]

    operations = [
        migrations.CreateModel(
            name="EventStream",
            fields=[
                ("cluster", models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name="event_stream", serialize=False, to="clusters.cluster", verbose_name="cluster")),
                ("position", models.CharField(blank=True, help_text="Everything before it is in the event store.", max_length=128, verbose_name="position")),
                ("position_at", models.DateTimeField(null=True, verbose_name="position reached")),
                ("holder", models.CharField(blank=True, max_length=120, verbose_name="collector")),
                ("contact_at", models.DateTimeField(null=True, verbose_name="last contact")),
                ("problem", beidou.base.sentence_fields.SentenceField(blank=True, limit=500, verbose_name="problem")),
                ("problem_since", models.DateTimeField(null=True, verbose_name="problem since")),
                ("heard", models.PositiveBigIntegerField(default=0, help_text="Events and updates of events read from the cluster.", verbose_name="heard")),
                ("stored", models.PositiveBigIntegerField(default=0, help_text="Of these, taken by the event store.", verbose_name="stored")),
                ("waiting", models.PositiveBigIntegerField(default=0, verbose_name="waiting in the spool")),
                ("waiting_bytes", models.PositiveBigIntegerField(default=0, verbose_name="size of the spool, bytes")),
                ("lag_seconds", models.FloatField(default=0, help_text="How long the oldest that waits has waited.", verbose_name="lag, seconds")),
                ("per_minute", models.FloatField(default=0, verbose_name="per minute")),
                ("last_event_at", models.DateTimeField(null=True, verbose_name="last event")),
                ("updated_at", models.DateTimeField(null=True, verbose_name="as of")),
            ],
            options={
                "verbose_name": "event stream",
                "verbose_name_plural": "event streams",
                "ordering": ["cluster__name"],
            },
        ),
        migrations.SeparateDatabaseAndState(state_operations=[EVENT]),
        migrations.RunPython(make, unmake),
    ]
