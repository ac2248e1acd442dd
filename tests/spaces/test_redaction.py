"""Secrets are found by the form of a value and by its name; what is none stays as it is."""

import pytest

from spaces.redaction import (
    MARK,
    is_secret,
    left_out,
    parsable,
    password_of,
    redacted,
    redacted_text,
    redacted_words,
    redacted_yaml,
    remember,
)


@pytest.mark.parametrize(
    ("url", "password", "without"),
    [
        ("postgresql://me:hunter2@h/db", "hunter2", "postgresql://me:***@h/db"),
        ("postgresql+psycopg2://me:p%40ss@h:5432/db", "p%40ss", "postgresql+psycopg2://me:***@h:5432/db"),
        ("postgresql://me:p@ss@h/db", "p@ss", "postgresql://me:***@h/db"),
        ("postgresql://me:p/s?s#s@h/db", "p/s?s#s", "postgresql://me:***@h/db"),
        ("postgresql://me:12/34@h/db", "12/34", "postgresql://me:***@h/db"),
        ("postgresql://me:two words@h/db", "two words", "postgresql://me:***@h/db"),
        ("redis://:hunter2@h:6379/0", "hunter2", "redis://:***@h:6379/0"),
        ("postgresql://me:hunter2@[::1]:5432/db", "hunter2", "postgresql://me:***@[::1]:5432/db"),
        ("https://me:hunter2@h/x", "hunter2", "https://me:***@h/x"),
        ("sqlite:///x.db?password=hunter2&timeout=3", "hunter2", "sqlite:///x.db?password=***&timeout=3"),
        ("mysql://h/db?sslpassword=a@b", "a@b", "mysql://h/db?sslpassword=***"),
    ],
)
def test_passwords_of_urls(url, password, without):
    assert password_of(url) == password and redacted(url) == without
    assert redacted_text(f"cannot open {url!r} now") == f"cannot open {without!r} now" or " " in password
    assert left_out(without, "here") == "here" and redacted(without) is without


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@h/db",
        "postgresql://h:5432/db",
        "postgresql://me:@h/db",
        "postgresql://[::1]:5432/db",
        "sqlite:////abs/path@home/study.db",
        "/abs/path/study.log",
        "C:\\runs\\study.log",
        "http://h:8080/path?mail=me@h",
        "s3://bucket/key@2",
        "see http://h:80/x, or write to me@h",
        "lr=0.1, tokens=12, password=",
    ],
)
def test_what_holds_no_secret_is_left_alone(url):
    assert redacted(url) is url and redacted_text(url) == url
    assert password_of(url) is None and left_out(url) is None


NAMES = """password db_password dbPassword sslpassword PGPASSWORD passwd passphrase secret client_secret
api_key apiKey OPENAI_API_KEY secret_access_key private_key token hf_token authToken accesstoken password2
credentials Authorization evaluators.0.password"""
HARMLESS = """key keys tokens token_dim max_tokens pad_token cls_token num_token tokenizer password_env
password_file secretary keyboard monkey passes bypass author storage_env dsn url seed"""


def test_names_of_secrets():
    assert [name for name in NAMES.split() if not is_secret(name)] == []
    assert [name for name in HARMLESS.split() if is_secret(name)] == []


def test_values_under_the_names_of_secrets():
    found = {
        "password": 1234,
        "token": 5,
        "api_key": "$KEY",
        "empty": {"password": "", "secret": None, "token": False},
        "credentials": {"user": "me", "more": ["x", 1]},
        "list": [{"secret": "x"}],
        "pad_token": "[PAD]",
        "secret": {"class_path": "my.Secret", "init_args": {"rounds": 3}},
    }
    assert redacted(found) == found | {
        "password": MARK,
        "credentials": {"user": MARK, "more": [MARK, MARK]},
        "list": [{"secret": MARK}],
    }
    harmless = {"a": [1, {"b": "x"}], "c": None}
    assert redacted(harmless) is harmless
    assert left_out(redacted({"data": {"init_args": {"parts": [{"token": "abc"}]}}})) == "data.parts.0.token"


def test_command_lines():
    given = ["prog", "--a.password", "hunter2", "--b.token=hunter2", "--c", "{password: hunter2}"]
    without = redacted_words([*given, "--url", "redis://:hunter2@h", "--n", "3"])
    assert "hunter2" not in " ".join(without) and len(without) == 10
    assert without[0] == "prog" and without[-2:] == ["--n", "3"]
    harmless = ["prog", "--x={a: 1,  b: 2}", "--", "-v", "a b  c"]
    assert redacted_words(harmless) == harmless


def test_texts():
    for text in (
        "Namespace(password='hunter2', n=3)",
        "{'url': 'x', 'password': 'hunter2'}",
        '{"token": "hunter2"}',
        "host=h password=hunter2 dbname=x",
        "connect(dsn='postgresql://me:hunter2@h/x')",
    ):
        without = redacted_text(text)
        assert "hunter2" not in without and MARK in without
    remember("pa%20ss-word", "abcd")
    assert redacted_text("refused: 'pa ss-word' (pa%20ss-word), abcd, abcdef") == (
        "refused: '***' (***), ***, abcdef"
    )


def test_yaml_without_a_secret_keeps_its_bytes():
    text = "# mine\na:   1\nb: [x,  y]\n"
    assert redacted_yaml(text) is text
    assert redacted_yaml("a: 1\npassword: hunter2\n") == "a: 1\npassword: '***'\n"
    assert "hunter2" not in redacted_yaml("a: [\npassword='hunter2'\n")


def test_parsers_get_the_password_that_was_meant():
    from sqlalchemy.engine import make_url

    for url in ("postgresql://me:p@ss@h:5432/db", "postgresql://me:p%40ss@h:5432/db"):
        found = make_url(parsable(url))
        assert (found.username, found.password, found.host) == ("me", "p@ss", "h")
    assert parsable("sqlite:///a@b.db?password=x@y") == "sqlite:///a@b.db?password=x@y"
