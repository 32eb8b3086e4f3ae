"""Packs that mean harm: refused with their file, or harmless, and either at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import pytest

from evol.errors import TemplateError
from evol.packs import MAX_OPERATORS, load_pack
from tests.test_templates import PACK, SYSTEM, USER, user, write_pack

SECONDS = 2.0  # of this process: what others do on the machine is no fault of a pack
# What has broken out of Jinja's sandboxes, or out of plain Jinja.
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('id') }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ (instruction|attr('format'))('{0.__class__}', 1) }}",
    "{{ '{0.__init__.__globals__}'.format(joiner) }}",
    "{{ instruction.format_map(namespace()) }}",
    "{% set x = ''|attr('__class__') %}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{{ url_for.__globals__ }}{{ get_flashed_messages.__globals__ }}",
    "{{ dict(a=1).__class__ }}",
    "{% call(x) instruction() %}{% endcall %}",
]
# What costs time or memory: to lex, to parse, to compute before it is compiled, to compile.
BOMBS = {
    "powers": user("{{ 2**(2**(2**(2**(2**9)))) }}"),
    "a long text": user("{{ 'a' * 99999999999 }}"),
    "a long text in an if": user("{% if 'a' * 99999999999 %}{% endif %}"),
    "a filter": user("{{ 'a'|center(9999999999) }}"),
    "a long number": user("{{ " + "9" * 60_000 + " }}"),
    "a long loop": user("{% for x in range(10**12) %}{% endfor %}"),
    "openings": user("{{" * 32_000),
    "tags": user("{%" * 32_000),
    "open comments": user("{#" * 32_000),
    "open raw": user("{% raw %}" * 7000),
    "ifs in ifs": user("{% if min_words %}" * 3500),
    "elifs": user("{% if min_words %}" + "{% elif min_words %}" * 3200 + "{% endif %}"),
    "ands": user("{% if " + "min_words and " * 4500 + "min_words %}{% endif %}"),
    "nots": user("{% if " + "not " * 15_000 + "min_words %}{% endif %}"),
    "brackets": user("{{ " + "(" * 60_000),
    "lists": user("{{ " + "[" * 30_000 + "]" * 30_000 + " }}"),
    "attributes": user("{{ a" + ".a" * 30_000 + " }}"),
    "calls": user("{{ a" + "()" * 30_000 + " }}"),
    "comparisons": user("{% if min_words" + " < 1" * 15_000 + " %}{% endif %}"),
    "blocks in blocks": user("".join(f"{{% block a{number} %}}" for number in range(2500))),
    "extends": '{% extends "only.j2" %}' * 2500,
}
HARMLESS = {
    "line breaks": user("\n" * 60_000),
    "names": user("{{ min_words }}" * 4000),
    "ifs": user("{% if min_words %}a{% endif %}" * 2000),
    "blocks": user("".join(f"{{% block a{number} %}}{{% endblock %}}" for number in range(1800))),
    "NULs": user("\0" * 60_000),
}
TOML_BOMBS = {
    "arrays in arrays": "a = " + "[" * 60_000,
    "tables in tables": "a = {" * 12_000,
    "a key of many parts": "a" + ".a" * 30_000 + " = 1",
    "a quoted key of many parts": '"a"' + ' . "a"' * 9000 + " = 1",
    "a table of many parts": "[a" + ".a" * 30_000 + "]",
    "a long number": "a = " + "9" * 60_000,
    "many keys": "".join(f"a{number} = 1\n" for number in range(6000)),
    "a name with an escape": '"\\u001b[2J\\n" = 1',
    "half of a character": 'description = "\\ud800"',
    "not UTF-8": b'description = "\xff"',
    "UTF-16": PACK.encode("utf-16"),
    "NULs": bytes(60_000),
    "too large": PACK + "#" * 70_000,
    "too many operators": PACK
    + "".join(f'[operators.o{number}]\nfamily = "depth"\ntemplate = "only.j2"\n' for number in range(MAX_OPERATORS)),
}


def refusal(files: Mapping[str, str | bytes], name: str = "mine") -> str:
    """What is said of the pack: one line that begins with a file of it, at once."""
    folder = write_pack(files, name)
    started = time.process_time()
    with pytest.raises(TemplateError) as refused:
        load_pack(str(folder))
    assert time.process_time() - started < SECONDS
    said = str(refused.value)
    assert said.startswith(f"{name}/")
    assert said.isprintable()
    assert len(said) < 1000
    return said


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_way_out_of_the_sandbox_is_refused_with_its_line(escape: str) -> None:
    said = refusal({"only.j2": user(escape)})
    assert said.startswith("mine/only.j2:2: ")
    assert "not allowed" in said or "unknown variable" in said
    system = SYSTEM.replace("Add", escape)
    assert refusal({"only.j2": system + USER}, "other").startswith("other/only.j2:1: ")


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_at_once(text: str) -> None:
    assert refusal({"only.j2": text}).startswith("mine/only.j2:")


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_is_only_large_is_read_at_once(text: str) -> None:
    folder = write_pack({"only.j2": text})
    started = time.process_time()
    load_pack(str(folder))
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("text", TOML_BOMBS.values(), ids=TOML_BOMBS)
def test_a_pack_file_that_means_harm_is_refused_at_once(text: str | bytes) -> None:
    assert refusal({"pack.toml": text}).startswith("mine/pack.toml:")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_template_in_another_encoding_is_refused_or_read(encoding: str) -> None:
    content = {"only.j2": user("").encode(encoding)}
    if encoding == "utf-8-sig":
        load_pack(str(write_pack(content)))
    else:
        assert "not UTF-8" in refusal(content)


@pytest.mark.parametrize("name", ["pack.toml", "only.j2", "judge.j2"])
def test_a_pipe_in_a_pack_is_not_waited_for(name: str) -> None:
    folder = write_pack({})
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(TemplateError, match=f"mine/{name}: not a file but a pipe or a device"):
        load_pack("mine")


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", ".", "only.j2", "nowhere"])
def test_a_link_to_what_is_no_template_is_refused(target: str) -> None:
    folder = write_pack({})
    (folder / "only.j2").unlink()
    (folder / "only.j2").symlink_to(target)
    with pytest.raises(TemplateError, match=r"mine/only\.j2: "):
        load_pack("mine")


def test_a_link_to_a_template_is_one() -> None:
    folder = write_pack({"real.j2": SYSTEM + USER})
    (folder / "only.j2").unlink()
    (folder / "only.j2").symlink_to("real.j2")
    load_pack("mine")


def test_a_chain_of_very_many_templates_is_refused() -> None:
    chain = {f"t{number}.j2": f'{{% extends "t{number + 1}.j2" %}}' for number in range(500)}
    said = refusal({**chain, "only.j2": '{% extends "t0.j2" %}', "t500.j2": SYSTEM + USER})
    assert "templates extend each other" in said


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a\nb", "../" * 2000])
def test_a_pack_of_a_name_that_cannot_be_is_not_there(name: str) -> None:
    with pytest.raises(TemplateError, match="no template pack at"):
        load_pack(name)
