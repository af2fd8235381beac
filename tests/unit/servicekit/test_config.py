from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from servicekit.config import (
    Address,
    Config,
    ConfigError,
    Duration,
    load_config,
    parse_duration,
    split_address,
)


class Example(Config):
    listen_on: Address
    life: Duration = timedelta(hours=1)


def load(folder: Path, content: str) -> Example:
    (folder / "c.json").write_text(content)
    return load_config(folder / "c.json", Example)


def test_keys_are_camel_case_and_values_typed(tmp_path: Path) -> None:
    read = load(tmp_path, '{"listenOn": "[::1]:80", "life": "1h30m"}')
    assert split_address(read.listen_on) == ("::1", 80)
    assert read.life == timedelta(minutes=90)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"listenOn": "a:1", "extra": 1}', "extra: 1:"),
        ('{"listen_on": "a:1"}', "listen_on"),
        ('{"listenOn": "a:1", "listenOn": "b:1"}', "there twice"),
        ('{"listenOn": 5}', "listenOn: 5:"),
        ('{"listenOn": "a:70000"}', "expected host:port"),
        ('{"listenOn": "a:1", "life": 5}', "expected a duration"),
        ('{"listenOn": "a:1", "life": "0s"}', "expected a duration"),
        ("{}", "listenOn: Field required"),
        ("[]", "the file"),
    ],
)
def test_faults_name_file_key_and_value(content: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, content)
    assert str(error.value).startswith(str(tmp_path / "c.json"))
    assert expected in str(error.value)


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1h2", "-1h", "1.5h", "1 h", "١h"])
def test_other_spellings_of_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
