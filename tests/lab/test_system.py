"""What the machine lacks of the lab's packages."""

import shutil

import pytest

from lab import system


def test_what_two_back_ends_need_is_installed_once(monkeypatch: pytest.MonkeyPatch):
    there = {"dpkg-query": "/usr/bin/dpkg-query"}
    monkeypatch.setattr(shutil, "which", there.get)
    monkeypatch.setattr(system, "run", lambda *words: "")
    missing = system.missing_packages("elasticsearch", "opensearch")
    assert missing == [*system.PACKAGES, "maven", "openjdk-17-jre-headless"]


def test_a_program_that_is_there_needs_no_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(system, "run", lambda *words: "")
    assert system.missing_packages("opensearch") == [*system.PACKAGES]
