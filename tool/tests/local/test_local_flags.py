"""Flags of gcloud run deploy, in every form in which gcloud takes them."""

import pytest

from tool.local.gcloud import command, deploy, flags
from tool.local.gcloud.command import Failed, Misused
from tool.local.services import Revision, Service

assert deploy  # the import registers the command


def given(*words):
    return flags.flags_in(command.parsed("run deploy", command.COMMANDS["run deploy"].arguments, ["x", "--region=r", *words]))


BEFORE = Revision("", "x", "entry", "a@example.com", {"A": "0", "Z": "26"})


@pytest.mark.parametrize(
    "words",
    [
        ["--set-env-vars=A=1,B=2"],
        ["--set-env-vars", "A=1,B=2"],
        ["--set-env-vars=A=1", "--set-env-vars=B=2"],
        ["--set-env-vars", "^:^A=1:B=2"],
        ["--set-env-vars=^##^A=1##B=2"],
        ["--set-env-vars=A=1", "--set-env-vars", "^:^B=2"],
        ["--clear-env-vars", "--update-env-vars=A=1", "--update-env-vars", "B=2"],
        ["--remove-env-vars=A", "--remove-env-vars=^:^Z:Y", "--update-env-vars=A=1,B=2"],
    ],
)
def test_a_list_that_comes_several_times_is_merged(words):
    assert given(*words).revision_from(BEFORE).variables == {"A": "1", "B": "2"}


def test_secrets_of_two_flags_are_merged():
    found = given("--set-secrets=A=a:latest", "--set-secrets", "B=b:2").revision_from(BEFORE)
    assert {name: which.version for name, which in found.secrets.items()} == {"A": "latest", "B": "2"}
    left = given("--remove-secrets=A").revision_from(found).secrets
    assert list(left) == ["B"]


def test_labels_add_to_those_before():
    before = Service("x", labels={"a": "1", "b": "1"})
    assert given("--labels=b=2", "--labels=c=3").service_from(before).labels == {"a": "1", "b": "2", "c": "3"}
    assert given("--clear-labels", "--update-labels=c=3").service_from(before).labels == {"c": "3"}
    assert given("--remove-labels=a").service_from(before).labels == {"b": "1"}


def test_a_key_that_comes_in_two_flags_is_refused():
    with pytest.raises(Misused, match='--set-env-vars: "A" cannot be specified multiple times'):
        given("--set-env-vars=A=1", "--set-env-vars=A=2").revision_from(BEFORE)


def test_of_one_value_the_last_counts():
    assert given("--timeout=1", "--timeout", "2").revision_from(BEFORE).timeout == 2


@pytest.mark.parametrize(
    "word, concurrency, most, timeout",
    [
        ("--concurrency=default", 80, 100, 300),
        ("--max-instances=default", 80, 100, 300),
        ("--concurrency=7", 7, 100, 300),
        ("--timeout=1m30s", 80, 100, 90),
        ("--timeout=1h", 80, 100, 3600),
        ("--timeout=45", 80, 100, 45),
    ],
)
def test_words_that_gcloud_takes_for_numbers(word, concurrency, most, timeout):
    found = given(word).revision_from(BEFORE)
    assert (found.concurrency, found.max_instances, found.timeout) == (concurrency, most, timeout)


@pytest.mark.parametrize("word", ["--concurrency=Default", "--concurrency=", "--timeout=", "--timeout=61m", "--timeout=s"])
def test_words_that_are_no_numbers(word):
    with pytest.raises(Failed):
        given(word).revision_from(BEFORE)
