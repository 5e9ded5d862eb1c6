"""Import and export: every difference and mistake first, then all or nothing."""

import csv
import re
import tracemalloc
from io import BytesIO, StringIO
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import tablib
from django_q.models import OrmQ

from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import AuditEntry
from machines.files import reading, report
from machines.files.resource import MachineResource
from machines.models import Machine, MachineFacts
from machines.services import facts, lifecycle
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State


def run(user, text, *, dry_run=False, **values):
    dataset = reading.read("fleet.csv", text.encode())
    result = MachineResource(user=user, file_name="fleet.csv", **values).import_data(
        dataset, dry_run=dry_run
    )
    return result, report.mistakes_of(result, dataset.headers)


def mistakes(user, text):
    found = run(user, text, dry_run=True)[1]
    return [(each.line, each.letter, each.message) for each in found]


def counts(result):
    return {name: result.totals[name] for name in ("new", "update", "skip", "invalid")}


FLEET = """address,hostname,serial,rack,cpus,labels,owner_team
10.8.3.11,r12-11,SN11,r12,64,"zone=a, tier=db",
10.8.3.12,r12-12,SN12,r12,64,,
"""


def test_a_file_adds_machines_with_history_and_one_audit_entry(admin):
    result, wrong = run(admin, FLEET, change_reason="delivery 4711")
    assert (wrong, counts(result)["new"]) == ([], 2)
    machine = Machine.objects.get(address="10.8.3.11")
    assert (machine.serial, machine.cpus, machine.labels) == (
        "SN11",
        64,
        {"zone": "a", "tier": "db"},
    )
    assert machine.state == State.DISCOVERED
    row = machine.history.get()
    assert (row.history_user, row.history_change_reason) == (admin, "delivery 4711")
    entry = AuditEntry.objects.get(verb="import")
    assert entry.after == {"10.8.3.11": "added", "10.8.3.12": "added"}


def test_a_dry_run_tells_everything_and_writes_nothing(admin):
    result, wrong = run(admin, FLEET, dry_run=True)
    assert counts(result)["new"] == 2
    first = report.changes_of(result)[0]
    assert (first.line, first.is_new) == (2, True)
    assert ("hostname", "", "r12-11") in first.changes
    assert not Machine.objects.exists()
    assert not AuditEntry.objects.filter(verb="import").exists()


def test_the_same_file_twice_changes_nothing(admin):
    run(admin, FLEET)
    result, _wrong = run(admin, FLEET)
    assert counts(result) == {"new": 0, "update": 0, "skip": 2, "invalid": 0}
    assert Machine.history.count() == 2
    assert AuditEntry.objects.filter(verb="import").count() == 1


def test_a_changed_row_is_written_with_history_and_the_others_are_not(admin):
    run(admin, FLEET)
    result, _wrong = run(admin, FLEET.replace("SN12,r12", "SN12,r13"))
    assert counts(result)["update"] == 1
    change = report.changes_of(result)[0]
    assert change.changes == [("rack", "r12", "r13")]
    machine = Machine.objects.get(address="10.8.3.12")
    assert (machine.rack, machine.history.count()) == ("r13", 2)
    assert Machine.objects.get(address="10.8.3.11").history.count() == 1


def test_columns_that_are_not_in_the_file_stay(admin):
    factories.make_machine("10.8.3.11", hostname="old", rack="r1", notes="keep")
    run(admin, "address,hostname\n10.8.3.11,new\n")
    machine = Machine.objects.get()
    assert (machine.hostname, machine.rack, machine.notes) == ("new", "r1", "keep")


def test_an_empty_cell_empties(admin):
    factories.make_machine("10.8.3.11", rack="r1", cpus=4)
    run(admin, "address,rack,cpus\n10.8.3.11,,\n")
    machine = Machine.objects.get()
    assert (machine.rack, machine.cpus) == ("", None)


def test_a_serial_number_finds_a_machine_that_moved_to_another_address(admin):
    machine = factories.make_machine("10.8.3.11", serial="SN11")
    run(admin, "address,serial\n10.8.3.99,SN11\n")
    assert str(Machine.objects.get(pk=machine.pk).address) == "10.8.3.99"


def test_the_serial_number_alone_is_enough(admin):
    machine = factories.make_machine("10.8.3.11", serial="SN11")
    run(admin, "serial,rack\nSN11,r9\n")
    machine.refresh_from_db()
    assert machine.rack == "r9"


def test_a_row_that_names_no_machine_is_told_what_to_give(admin):
    text = "address,hostname\n,a\n"
    assert mistakes(admin, text) == [(2, "A", "Give an IP address.")]


def test_every_mistake_is_told_with_line_and_column(admin):
    text = """address,hostname,cpus,labels,owner_team,warranty_until
10.8.3.11,a,many,zone=a,,
not-an-address,b,4,nonsense,,
10.8.3.12,c,4,,nobody,tomorrow
"""
    assert mistakes(admin, text) == [
        (2, "C", "“many” is no whole number."),
        (3, "A", "“not-an-address” is no IP address."),
        (3, "D", "“nonsense” is no label; write key=value."),
        (4, "E", "There is no team “nobody” that you belong to."),
        (4, "F", "“tomorrow” is no date; write it as 2027-12-31."),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("address,colour\n10.8.3.1,red\n", "names columns that are not known: colour"),
        ("address,rack,rack\n10.8.3.1,a,b\n", "names columns twice: rack"),
        ("hostname\nx\n", "must name the column address or serial"),
    ],
)
def test_a_wrong_heading_is_told(admin, text, message):
    found = mistakes(admin, text)
    assert message in found[0][2]


def test_an_unknown_column_hides_no_mistake_of_a_row(admin):
    found = mistakes(admin, "address,colour,cpus\n10.8.3.1,red,many\nnowhere,,4\n")
    assert [(line, letter) for line, letter, _text in found] == [(1, ""), (2, "C"), (3, "A")]
    assert "columns that are not known: colour. Known are: address," in found[0][2]


def test_an_unknown_column_alone_keeps_all_rows_from_being_written(admin):
    result, wrong = run(admin, "address,colour\n10.8.3.1,red\n")
    assert [each.line for each in wrong] == [1]
    assert not Machine.objects.exists()


@pytest.mark.parametrize(
    "heading", ["adress,cpus", "address,cpus,address", "address,cpus,address,colour"]
)
def test_rows_of_which_nobody_knows_what_they_say_are_not_told(admin, heading):
    row = ",".join("many" for _name in heading.split(","))
    found = mistakes(admin, f"{heading}\n{row}\n")
    assert [line for line, _letter, _text in found] == [1]


def test_all_mistakes_of_the_heading_are_told_at_once(admin):
    ((_line, _letter, text),) = mistakes(admin, "adress,rack,rack,\nx,y,z,\n")
    assert "not known: adress, –." in text
    assert "twice: rack." in text
    assert "must name the column address or serial." in text


def test_two_lines_about_one_machine_are_refused(admin):
    found = mistakes(admin, "address,rack\n10.8.3.1,a\n10.8.3.1,b\n")
    assert found == [(3, "A", "“10.8.3.1” stands in line 2 already.")]


def test_a_serial_number_of_another_machine_is_refused(admin):
    factories.make_machine("10.8.3.1", serial="SN1")
    factories.make_machine("10.8.3.2", serial="SN2")
    found = mistakes(admin, "address,serial\n10.8.3.2,SN1\n")
    assert found[0][:2] == (2, "B")
    assert "belongs to the machine" in found[0][2]


def test_one_wrong_row_keeps_all_others_from_being_written(admin):
    result, wrong = run(admin, FLEET + "nonsense,x,,,,,\n")
    assert wrong
    assert not Machine.objects.exists()


def test_a_machine_added_meanwhile_stops_the_import_whole(admin, monkeypatch):
    dataset = reading.read("fleet.csv", FLEET.encode())
    resource = MachineResource(user=admin)
    write = resource._write

    def somebody_was_faster(result):
        factories.make_machine("10.8.3.12")
        write(result)

    monkeypatch.setattr(resource, "_write", somebody_was_faster)
    with pytest.raises(Conflict, match="Somebody added one of these"):
        resource.import_data(dataset)
    assert Machine.objects.count() == 1


# --- rights ---------------------------------------------------------------------------------
@pytest.fixture
def meanwhile(monkeypatch):
    """Have something done between the two halves of the next import."""

    def between(deed):
        write = MachineResource._write_rows

        def deed_first(self):
            deed()
            write(self)

        monkeypatch.setattr(MachineResource, "_write_rows", deed_first)

    return between


def test_what_somebody_saved_meanwhile_is_not_put_back(admin, meanwhile):
    factories.make_machine("10.8.3.11", rack="r1", notes="old")
    edited = factories.make_machine("10.8.3.12", rack="r1", notes="old")
    meanwhile(lambda: Machine.objects.filter(pk=edited.pk).update(rack="r7"))
    with pytest.raises(Conflict, match=r"changed .*10\.8\.3\.12"):
        run(admin, "address,rack,notes\n10.8.3.11,r2,old\n10.8.3.12,r1,new\n")
    assert set(Machine.objects.values_list("rack", "notes")) == {("r1", "old")}


def test_the_history_of_an_import_holds_a_host_key_that_was_pinned_meanwhile(admin, meanwhile):
    machine = factories.make_machine("10.8.3.11", rack="r1")
    meanwhile(lambda: Machine.objects.filter(pk=machine.pk).update(host_key="ssh-ed25519 AAAA"))
    run(admin, "address,rack\n10.8.3.11,r2\n")
    assert machine.history.first().host_key == "ssh-ed25519 AAAA"


def test_who_may_not_add_machines_imports_none(operator):
    found = mistakes(operator, "address\n10.8.3.1\n")
    assert "you may not add machines" in found[0][2]


def test_a_machine_one_may_not_change_is_refused(operator, operators, cluster_b):
    factories.give(operators, "machines.add_machine")
    factories.make_machine("10.8.3.1", cluster=cluster_b)
    found = mistakes(operator, "address,rack\n10.8.3.1,r1\n")
    assert "that you may not change" in found[0][2]


def test_new_machines_belong_to_the_only_team_of_who_imports(operator, operators):
    factories.give(operators, "machines.add_machine")
    run(operator, "address,owner_team\n10.8.3.1,\n")
    assert Machine.objects.get().owner_team == operators


def test_who_is_in_two_teams_must_name_one(operator, operators):
    factories.give(operators, "machines.add_machine")
    operator.groups.add(factories.make_team("second"))
    found = mistakes(operator, "address,owner_team\n10.8.3.1,\n10.8.3.2,second\n")
    assert found == [(2, "B", "Choose one of your teams as the owner.")]


def test_a_foreign_credential_is_unknown(operator, operators):
    factories.give(operators, "machines.add_machine")
    factories.make_credential("root-of-all")
    found = mistakes(operator, "address,credential\n10.8.3.1,root-of-all\n")
    assert "There is no credential “root-of-all” that you may use." in found[0][2]


# --- state ----------------------------------------------------------------------------------
@pytest.mark.parametrize("old", State.values)
@pytest.mark.parametrize("new", State.values)
def test_a_state_in_a_file_obeys_the_same_rules_as_a_person(admin, old, new):
    machine = factories.make_machine("10.8.3.1", state=old)
    refused = lifecycle.refusal(machine, new) if old != new else None
    _result, wrong = run(admin, f"address,state\n10.8.3.1,{new}\n", change_reason="list")
    machine.refresh_from_db()
    if refused:
        assert [each.message for each in wrong] == [refused]
        assert wrong[0].letter == "B"
        assert machine.state == old
    else:
        assert machine.state == new
        assert machine.status_changes.count() == (0 if old == new else 1)


def test_a_new_machine_may_come_as_available(admin):
    run(admin, "address,state\n10.8.3.1,Available\n", change_reason="tested")
    machine = Machine.objects.get()
    assert machine.state == State.AVAILABLE
    assert machine.status_changes.get().reason == "tested"


def test_a_new_machine_does_not_come_reserved(admin):
    found = mistakes(admin, "address,state\n10.8.3.1,reserved\n")
    assert "cannot become Reserved" in found[0][2]


def test_an_unknown_state_is_told(admin):
    assert mistakes(admin, "address,state\n10.8.3.1,happy\n") == [
        (2, "B", "“happy” is no state of a machine.")
    ]


# --- files ----------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_exported_file_changes_nothing_when_imported(admin, cluster_a, kind):
    team = factories.make_team("blue")
    credential = factories.make_credential("root")
    node = factories.make_node(cluster_a)
    factories.make_machine("10.8.3.1", serial="SN1", labels={"a": "b"}, owner_team=team, cpus=4)
    factories.make_machine(
        "10.8.3.2",
        credential=credential,
        node=node,
        cluster=cluster_a,
        state=State.IN_SERVICE,
        warranty_until="2027-01-31",
        notes="two\nlines, and a comma",
    )
    content = reading.write(Machine.objects.all(), kind=kind, user=admin)
    dataset = reading.read(f"fleet.{kind}", content)
    result = MachineResource(user=admin).import_data(dataset)
    assert report.mistakes_of(result, dataset.headers) == []
    assert counts(result)["skip"] == 2


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(
    "notes",
    [
        "a\x01b",
        "x" * 40_000,
        "'=1",
        "'quoted",
        "two\r\nlines",
        " outer ",
        "_x000D_",
        '<!DOCTYPE x><?xml encoding="cp037"?>',
    ],
)
def test_a_text_of_any_kind_is_unchanged_by_its_own_export(admin, kind, notes):
    factories.make_machine("10.8.3.11", notes=notes)
    content = reading.write(Machine.objects.all(), kind=kind, user=admin)
    dataset = reading.read(f"fleet.{kind}", content)
    result = MachineResource(user=admin).import_data(dataset, dry_run=True)
    assert (report.mistakes_of(result, dataset.headers), counts(result)["skip"]) == ([], 1)


def test_a_control_code_in_one_machine_keeps_no_other_from_being_exported(admin, browser):
    machine = factories.make_machine("10.8.3.11", notes="a\x0bb")
    chosen = {"action": "export_xlsx", "_selected_action": [machine.pk]}
    answer = browser(admin).post("/machines/machine/", chosen)
    rows = tablib.Dataset().load(answer.content, format="xlsx").dict
    assert [row["notes"] for row in rows] == ["a\ufffdb"]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_export_is_audited_with_how_many_machines_it_holds(admin, browser, kind):
    machine = factories.make_machine("10.8.3.11")
    chosen = {"action": f"export_{kind}", "_selected_action": [machine.pk]}
    browser(admin).post("/machines/machine/", chosen)
    entry = AuditEntry.objects.get(verb="export")
    assert (entry.object_name, entry.after) == ("machines", {"file": kind, "machines": 1})


def test_numbers_in_a_spreadsheet_are_read_as_they_look(admin):
    sheet = tablib.Dataset(headers=["address", "rack", "cpus"])
    sheet.append(["10.8.3.1", 12, 64])
    dataset = reading.read("fleet.xlsx", sheet.export("xlsx"))
    MachineResource(user=admin).import_data(dataset)
    machine = Machine.objects.get()
    assert (machine.rack, machine.cpus) == ("12", 64)


def test_semicolons_are_understood(admin):
    run(admin, "address;rack\n10.8.3.1;r1\n")
    assert Machine.objects.get().rack == "r1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fleet.doc", b"x", "neither a .csv nor a .xlsx file"),
        ("fleet.xlsx", b"no zip", "cannot be read as XLSX"),
        ("fleet.csv", "地址,rack\n".encode("gb18030"), "is not in UTF-8"),
        ("fleet.csv", b"address\n", "has no rows below its heading"),
        ("fleet.csv", b"", "has no rows below its heading"),
        ("fleet.csv", b"x" * (20 * 1024 * 1024 + 1), "more than 20 MiB"),
    ],
)
def test_what_is_no_table_is_refused_with_a_sentence(name, content, message):
    with pytest.raises(InvalidInput, match=message):
        reading.read(name, content)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("address,notes\n10.9.0.9,a\0b\n", "B"),
        ("address,serial\n10.9.0.9,a\0b\n", "B"),
        ("address,rack\n10.9.0.9\0,r1\n", "A"),
        ("address,labels\n10.9.0.9,zone=a\0b\n", "B"),
        ("address,owner_team\n10.9.0.9,a\0b\n", "B"),
    ],
)
def test_what_no_database_keeps_is_a_mistake_of_its_cell(admin, text, letter):
    [(line, column, message)] = mistakes(admin, text)
    assert (line, column) == (2, letter)
    assert "cannot be stored" in message
    assert not Machine.objects.exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</sheetData>", ""),
        ("<row", "&nothing;<row"),
        ('<c r="B2" t="inlineStr">', '<c r="B2" t="s"><v>99</v>'),
        ('r="2"', 'r="1e999"'),
        ("<sheetData", "<sheetData\ufffe"),
    ],
)
def test_a_broken_sheet_is_refused_with_a_sentence(old, new):
    content = rewritten(one_row(), SHEET, lambda text: text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match="cannot be read as XLSX"):
        reading.read("fleet.xlsx", content)


@pytest.mark.parametrize("part", ["[Content_Types].xml", "xl/workbook.xml", "xl/styles.xml"])
def test_a_workbook_that_is_cut_off_is_refused_with_a_sentence(part):
    content = rewritten(one_row(), part, lambda text: text[:-30])
    with pytest.raises(InvalidInput, match="cannot be read as XLSX"):
        reading.read("fleet.xlsx", content)


def test_formulas_are_made_harmless_in_exports(admin):
    factories.make_machine("10.8.3.1", notes="=1+1")
    content = reading.write(Machine.objects.all(), kind="csv", user=admin)
    assert b",=1+1" not in content
    MachineResource(user=admin).import_data(reading.read("fleet.csv", content))
    assert Machine.objects.get().notes == "=1+1"


@pytest.mark.parametrize("before", ["\t", "\r"])
def test_a_formula_behind_white_space_is_made_harmless_too(admin, before):
    factories.make_machine("10.8.3.1", notes=f"{before}=1+1")
    content = reading.write(Machine.objects.all(), kind="csv", user=admin).decode("utf-8-sig")
    [row] = csv.DictReader(StringIO(content, newline=""))
    assert row["notes"] == f"'{before}=1+1"


def test_no_secret_is_exported(admin):
    factories.make_machine("10.8.3.1", credential=factories.make_credential(password="geheim"))
    assert b"geheim" not in reading.write(Machine.objects.all(), kind="csv", user=admin)


def test_the_number_of_queries_does_not_grow_with_the_rows(admin, django_assert_max_num_queries):
    text = "address,rack,owner_team\n" + "".join(f"10.9.0.{n},r1,blue\n" for n in range(1, 200))
    factories.make_team("blue")
    with django_assert_max_num_queries(30):
        run(admin, text)
    with django_assert_max_num_queries(35):
        run(admin, text.replace("r1", "r2"))
    assert Machine.objects.filter(rack="r2").count() == 199


def test_an_archive_that_unpacks_to_too_much_is_refused(admin, monkeypatch):
    content = reading.write([factories.make_machine()], kind="xlsx", user=admin)
    monkeypatch.setattr(reading, "UNPACKED_BYTES_MAX", 1024**2)
    assert reading.read("fleet.xlsx", content)
    with ZipFile(packed := BytesIO(content), "a", ZIP_DEFLATED) as archive:
        archive.writestr("xl/bomb.xml", b" " * 1024**2)
    with pytest.raises(InvalidInput, match="larger than 1 MiB when unpacked"):
        reading.read("fleet.xlsx", packed.getvalue())


def rewritten(content: bytes, name: str, change) -> bytes:
    """The archive with one of its files changed."""
    with ZipFile(BytesIO(content)) as old, ZipFile(made := BytesIO(), "w", ZIP_DEFLATED) as new:
        for entry in old.namelist():
            text = old.read(entry).decode()
            new.writestr(entry, change(text) if entry == name else text)
    return made.getvalue()


def test_a_sheet_that_lies_about_its_size_is_read_up_to_the_limit(admin):
    """Filled up as it says, it would take gigabytes."""
    sheet = tablib.Dataset(["10.8.3.1", "r1"], headers=["address", "rack"])

    def lie(text: str) -> str:
        last = '<row r="1048576"><c r="A1048576" t="n"><v>1</v></c></row></sheetData>'
        text = re.sub(r'<dimension ref="[^"]*"', '<dimension ref="A1:XFD1048576"', text)
        return text.replace("</sheetData>", last)

    content = rewritten(sheet.export("xlsx"), "xl/worksheets/sheet1.xml", lie)
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="more than 20000 rows"):
        reading.read("fleet.xlsx", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024**2


SHEET, STYLES, TYPES = "xl/worksheets/sheet1.xml", "xl/styles.xml", "[Content_Types].xml"


def one_row() -> bytes:
    return tablib.Dataset(["10.8.3.1", "r1"], headers=["address", "rack"]).export("xlsx")


def with_strings(content: bytes, strings: str) -> bytes:
    """The texts that cells share, as Excel keeps them."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    listed = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    content = rewritten(content, TYPES, lambda text: text.replace("</Types>", listed))
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with ZipFile(packed := BytesIO(content), "a", ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{space}">{strings}</sst>')
    return packed.getvalue()


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        (STYLES, "</cellXfs>", "<xf/>" * 1_000_000 + "</cellXfs>"),
        (SHEET, "</row>", "<c/>" * 1_000_000 + "</row>"),
        (SHEET, "<sheetData>", "<x/>" * 1_000_000 + "<sheetData>"),
        (SHEET, "</worksheet>", f"<m>{'<mergeCell/>' * 1_000_000}</m></worksheet>"),
    ],
    ids=["styles", "one row", "above the rows", "below the rows"],
)
def test_a_million_tags_at_once_are_refused(part, old, new):
    """They come in a few kilobytes, and cost hundreds of megabytes and half a minute."""
    content = rewritten(one_row(), part, lambda text: text.replace(old, new, 1))
    assert len(content) < 50_000
    with pytest.raises(InvalidInput, match="holds far more than a table"):
        reading.read("fleet.xlsx", content)


def test_a_million_tags_in_one_string_are_refused():
    content = with_strings(one_row(), f"<si>{'<r/>' * 1_000_000}</si>")
    with pytest.raises(InvalidInput, match="holds far more than a table"):
        reading.read("fleet.xlsx", content)


def test_more_tags_than_the_rows_of_the_largest_table_have_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "_TAGS_MAX", 300_000)
    rows = f"<row>{'<c/>' * 30_000}</row>" * 11 + "</sheetData>"
    content = rewritten(one_row(), SHEET, lambda text: text.replace("</sheetData>", rows))
    with pytest.raises(InvalidInput, match="holds far more than a table"):
        reading.read("fleet.xlsx", content)


def test_more_strings_than_the_largest_table_has_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "_TAGS_MAX", 300_000)
    content = with_strings(one_row(), "<si/>" * 75_002)
    with pytest.raises(InvalidInput, match="holds far more than a table"):
        reading.read("fleet.xlsx", content)


def test_strings_that_cells_share_are_read():
    """As Excel writes them, and more of them than may be in hand at once."""
    cell = re.compile(r'<c r="B2"[^>]*>.*?</c>')
    shared = '<c r="B2" t="s"><v>59999</v></c>'
    content = rewritten(one_row(), SHEET, lambda text: cell.sub(shared, text, count=1))
    content = with_strings(content, "<si><t>shared</t></si>" * 60_000)
    assert reading.read("fleet.xlsx", content)["rack"] == ["shared"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<worksheet", '<!DOCTYPE x [<!ENTITY a "<c/>">]><worksheet'),
        ("<worksheet", '<?xml version="1.0" encoding="cp037"?><worksheet'),
    ],
    ids=["entities", "an encoding"],
)
def test_tags_in_disguise_are_refused(old, new):
    content = rewritten(one_row(), SHEET, lambda text: text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match="cannot be read as XLSX"):
        reading.read("fleet.xlsx", content)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_as_many_rows_as_are_allowed_are_read_and_no_more(kind, monkeypatch):
    monkeypatch.setattr(reading, "ROWS_MAX", 3)
    sheet = tablib.Dataset(*[[f"10.8.3.{n}"] for n in range(3)], headers=["address"])
    data = sheet.export(kind)
    assert len(reading.read(f"fleet.{kind}", data.encode() if kind == "csv" else data)) == 3
    sheet.append(["10.8.3.9"])
    data = sheet.export(kind)
    with pytest.raises(InvalidInput, match="more than 3 rows"):
        reading.read(f"fleet.{kind}", data.encode() if kind == "csv" else data)


def test_a_huge_csv_file_is_refused_without_reading_all_of_it():
    rows = b"address\n" + b"x\n" * 2_000_000
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="more than 20000 rows"):
        reading.read("fleet.csv", rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024**2


def test_a_spreadsheet_with_too_many_columns_is_refused(admin):
    sheet = tablib.Dataset(["10.8.3.1"] * 60, headers=["address"] * 60)
    dataset = reading.read("fleet.xlsx", sheet.export("xlsx"))
    result = MachineResource(user=admin).import_data(dataset)
    [mistake] = report.mistakes_of(result, dataset.headers)
    assert "names columns twice: address" in mistake.message


def test_an_own_export_with_foreign_team_and_credential_is_imported_again(cluster_a):
    owners = factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    user, foreign = factories.make_user(teams=(owners,)), factories.make_team("foreign")
    key = factories.make_credential()
    machine = factories.make_machine(cluster=cluster_a, owner_team=foreign, credential=key)
    rows = Machine.objects.all()
    text = reading.write(rows, kind="csv", user=user).decode("utf-8-sig")
    assert counts(run(user, text)[0])["skip"] == 1
    result, wrong = run(user, text.replace(machine.hostname, "renamed"))
    assert (counts(result)["update"], wrong) == (1, [])
    machine.refresh_from_db()
    assert (machine.hostname, machine.owner_team, machine.credential) == ("renamed", foreign, key)


def test_a_foreign_team_of_another_machine_is_still_refused(cluster_a):
    owners = factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    factories.make_team("foreign")
    factories.make_machine("10.8.3.11", cluster=cluster_a)
    text = "address,owner_team\n10.8.3.11,foreign\n"
    found = mistakes(factories.make_user(teams=(owners,)), text)
    assert "There is no team “foreign”" in found[0][2]


def test_each_cluster_has_its_own_audit_entry_with_addresses_and_fields(
    admin, viewer, cluster_a, cluster_b
):
    factories.make_machine("10.8.3.11", cluster=cluster_a)
    factories.make_machine("10.8.3.12", cluster=cluster_b, hostname="same")
    factories.make_machine("10.8.3.13", hostname="r12-13", rack="r12")
    text = "address,hostname,rack\n10.8.3.11,r12-11,r12\n10.8.3.12,same,r12\n10.8.3.13,r12-13,r12\n"
    run(admin, text)
    entries = AuditEntry.objects.filter(verb="import")
    assert {entry.cluster_id: entry.after for entry in entries} == {
        cluster_a.pk: {"10.8.3.11": ["hostname", "rack"]},
        cluster_b.pk: {"10.8.3.12": ["rack"]},
    }


def test_an_empty_row_is_passed_over_and_the_others_keep_their_lines(admin):
    text = "address,rack\n10.8.3.1,r1\n,\n \t,\n10.8.3.2,r2\nnonsense,r3\n"
    assert [line for line, _letter, _text in mistakes(admin, text)] == [6]
    result, wrong = run(admin, text.replace("nonsense,r3\n", ""))
    assert (wrong, counts(result)) == ([], {"new": 2, "update": 0, "skip": 0, "invalid": 0})


def refusal_of(text):
    with pytest.raises(InvalidInput) as refused:
        reading.read("fleet.csv", text.encode())
    return str(refused.value)


def test_a_row_with_more_cells_than_the_heading_is_named():
    assert "Line 3 has more cells" in refusal_of("address,notes\n10.8.3.1,a\n10.8.3.2,a,b\n")


def test_empty_cells_beyond_the_heading_are_passed_over(admin):
    result, wrong = run(admin, "address,notes\n10.8.3.1,a,,\n10.8.3.2,,\n")
    assert (wrong, counts(result)["new"]) == ([], 2)


@pytest.mark.parametrize(
    "row", ['"10.8.3.2,a\n10.8.3.3,b\n', '"10.8.3.2"x,a\n', '"' + "x\n" * 70_000]
)
def test_a_row_whose_quotation_marks_are_wrong_is_named_by_where_it_begins(row):
    assert "begins in line 3 " in refusal_of("address,notes\n10.8.3.1,a\n" + row)


def test_the_heading_may_be_written_in_capitals(admin):
    result, wrong = run(admin, "Address,HOSTNAME\n10.8.3.1,r1\n")
    assert (wrong, counts(result)["new"]) == ([], 1)
    assert Machine.objects.get().hostname == "r1"


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_empty_role_comes_back_empty(admin, kind):
    machine = factories.make_machine(role="")
    content = reading.write([machine], kind=kind, user=admin)
    dataset = reading.read(f"fleet.{kind}", content)
    result = MachineResource(user=admin).import_data(dataset, dry_run=True)
    assert counts(result) == {"new": 0, "update": 0, "skip": 1, "invalid": 0}


def test_a_new_machine_without_a_role_in_the_file_has_the_usual_one(admin):
    run(admin, "address,role\n10.8.3.1,\n")
    assert Machine.objects.get().role == "Compute"


def test_blank_lines_of_a_csv_file_are_counted(admin):
    text = "\naddress,cpus\n\n10.8.3.11,4\n\n10.8.3.12,x\n"
    assert [line for line, _, _ in mistakes(admin, text)] == [6]


def test_blank_lines_at_the_end_are_no_rows_too_many(monkeypatch):
    monkeypatch.setattr(reading, "ROWS_MAX", 2)
    dataset = reading.read("a.csv", b"address\n10.8.3.11\n10.8.3.12\n\n\n")
    assert len(dataset) == 2


def test_an_address_in_another_spelling_is_the_same_machine(admin):
    text = "address,rack\n::ffff:10.8.3.11,r1\n"
    run(admin, text)
    result, wrong = run(admin, text)
    assert (wrong, counts(result)["skip"]) == ([], 1)
    assert Machine.objects.get().address == "10.8.3.11"


def test_two_spellings_of_one_address_are_two_lines_about_one_machine(admin):
    text = "address,rack\n::ffff:10.8.3.11,r1\n10.8.3.11,r2\n"
    assert "line 2 already" in mistakes(admin, text)[0][2]


def test_a_file_of_empty_rows_has_no_rows():
    with pytest.raises(InvalidInput, match="no rows below its heading"):
        reading.read("fleet.csv", b"address,rack\n,\n,\n")


@pytest.mark.parametrize("heading", ["address,colour", "address,address", "rack,room"])
def test_a_mistake_in_the_heading_stands_in_line_1(admin, heading):
    assert [line for line, _letter, _text in mistakes(admin, f"{heading}\n10.8.3.1,x\n")] == [1]


# --- first visits ---------------------------------------------------------------------------
@pytest.fixture
def credential(db):
    return factories.make_credential("ssh")


def visits():
    return [key for task in OrmQ.objects.order_by("pk") for key in task.task["args"]]


def keys(*addresses):
    return [Machine.objects.get(address=address).pk for address in addresses]


def imported(user, text, commit, **values):
    with commit(execute=True):
        return run(user, text, **values)


def test_imported_machines_that_can_be_signed_in_at_are_visited_at_once(
    admin, credential, django_capture_on_commit_callbacks
):
    text = "address,credential\n10.8.3.11,ssh\n10.8.3.12,\n10.8.3.13,ssh\n"
    imported(admin, text, django_capture_on_commit_callbacks)
    assert visits() == keys("10.8.3.11", "10.8.3.13")
    [entry] = AuditEntry.objects.filter(verb="gather facts")
    assert entry.after == {"machines": ["10.8.3.11", "10.8.3.13"]}


def test_a_machine_that_gets_its_credential_by_a_file_is_visited_and_one_that_was_is_not(
    admin, credential, django_capture_on_commit_callbacks
):
    factories.make_machine("10.8.3.11")
    MachineFacts.objects.create(machine=factories.make_machine("10.8.3.12"))
    text = "address,credential\n10.8.3.11,ssh\n10.8.3.12,ssh\n"
    imported(admin, text, django_capture_on_commit_callbacks)
    assert visits() == keys("10.8.3.11")


@pytest.mark.parametrize("line", ["10.8.3.11,ssh,x", "10.8.3.11,none such,1"])
def test_nobody_is_visited_by_a_file_with_mistakes_or_a_dry_run(
    line, admin, credential, django_capture_on_commit_callbacks
):
    imported(admin, f"address,credential,cpus\n{line}\n", django_capture_on_commit_callbacks)
    good = "address,credential\n10.8.3.11,ssh\n"
    imported(admin, good, django_capture_on_commit_callbacks, dry_run=True)
    assert visits() == []


def test_of_a_long_file_so_many_are_visited_as_the_clock_takes_at_once(
    admin, credential, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(facts, "asked_at_once", lambda fleet: 3)
    monkeypatch.setattr(facts, "MACHINES_PER_TASK", 2)
    monkeypatch.setattr(facts, "KEYS_PER_QUERY", 2)
    lines = [f"10.8.3.{n},ssh" for n in range(11, 16)]
    text = "\n".join(["address,credential", *lines, ""])
    imported(admin, text, django_capture_on_commit_callbacks)
    assert [len(task.task["args"]) for task in OrmQ.objects.order_by("pk")] == [2, 1]
    assert visits() == keys("10.8.3.11", "10.8.3.12", "10.8.3.13")
