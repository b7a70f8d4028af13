"""The tables of the outbox, as migrations: a file of any earlier version is brought up to this one."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("sensor-gateway-outbox")


@migrations()
def m001_blocks(db: Database) -> None:
    """Create the first tables."""
    db.table("epoch").create(
        {"id": int, "boot_id": str, "clock_offset": float, "started": float},
        pk="id",
        not_null={"boot_id", "clock_offset", "started"},
        strict=True,
    )
    db.table("block").create(
        {"first_id": int, "last_id": int, "count": int, "crc": int, "data": bytes},
        pk="first_id",
        not_null={"last_id", "count", "crc", "data"},
        strict=True,
    )
    db.table("uplink").create({"name": str, "acked": str}, pk="name", not_null={"acked"}, strict=True)
    db.table("ledger").create(
        {
            "id": int,
            "uplink": str,
            "stream": str,
            "epoch": int,
            "first_seq": int,
            "last_seq": int,
            "first_time": float,
            "last_time": float,
            "count": int,
            "reason": str,
        },
        pk="id",
        not_null={"uplink", "stream", "epoch", "first_seq", "last_seq", "first_time", "last_time", "count", "reason"},
        strict=True,
    )


@migrations()
def m002_publications(db: Database) -> None:
    """Add what a session with a broker needs to go on after a restart, and the quarantine."""
    db.table("uplink").add_column("released", str, not_null_default="[]")
    db.table("uplink").add_column("session", str, not_null_default="{}")
    db.table("quarantine").create(
        {"uplink": str, "id": int, "reason": str, "time": float, "data": bytes},
        pk=("uplink", "id"),
        not_null={"reason", "time", "data"},
        strict=True,
    )


@migrations()
def m003_endings(db: Database) -> None:
    """Add what tells an orderly end from any other, and checksums of the rows that everything hangs on."""
    db.table("epoch").add_column("interval", float, not_null_default=0.0)
    db.table("epoch").add_column("streams", str, not_null_default="{}")
    db.table("epoch").add_column("ended", float)
    db.table("epoch").add_column("crc", int)
    db.table("uplink").add_column("crc", int)


@migrations()
def m004_priorities(db: Database) -> None:
    """Add what decides which readings are sent first, and which go first when there is no room."""
    db.table("block").add_column("priority", int, not_null_default=0)  # 1: of streams marked high, and of no others
    db.table("block").add_column("level", int, not_null_default=1)  # one of so many readings is left, by thinning


@migrations()
def m005_choices(db: Database) -> None:
    """Add of which devices an uplink wants the readings: a JSON list, or NULL for all."""
    db.table("uplink").add_column("devices", str)


@migrations()
def m006_clock(db: Database) -> None:
    """Add what bounds the time of a run whose clock was never set."""
    db.table("epoch").add_column("synced", int)  # 1: it was set, 0: it was wrong, NULL: nobody has said
    db.table("epoch").add_column("since", float)  # UTC: its boot began later than that
    db.table("epoch").add_column("seen", float, not_null_default=0.0)  # seconds since boot: it was up for so long


NAMES = tuple(migration.name for migration in migrations.pending(Database(memory=True)))
"""The migrations that this version knows, in order."""
TABLES = frozenset({"epoch", "block", "uplink", "ledger", "quarantine"})
