"""`evol templates`: list, show, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evol.cli.talk import show as show_line
from evol.errors import TemplateError

if TYPE_CHECKING:
    from evol.packs import Pack

app = typer.Typer(help="Template packs: list, show, check.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def _alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_packs()


@app.command("list")
def list_packs() -> None:
    """List the packs that come with evol, and what is in them."""
    from evol.packs import load_pack, shipped_packs

    for name in shipped_packs():
        _describe(load_pack(name))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A pack, a template, or PACK/TEMPLATE.")],
    pack: Annotated[str, typer.Option(help="The pack to look in: a name or a folder.")] = "wizardlm",
) -> None:
    """Show a pack, or the text of one template."""
    from evol.packs import is_pack, load_pack, shipped_packs

    if name in shipped_packs() or is_pack(Path(name)):
        _describe(load_pack(name))
        return
    prefix, _, template_name = name.rpartition("/")
    loaded = load_pack(prefix or pack)
    if template_name not in loaded.templates:
        raise TemplateError(f"no template {template_name} in {loaded.name}; it has {', '.join(loaded.templates)}")
    template = loaded.templates[template_name]
    for file in template.files:
        show_line(f"# {file.path}")
        show_line(file.source)


@app.command("check")
def check(path: Annotated[str, typer.Argument(help="A pack: a folder or a name.")]) -> None:
    """Check a pack as a run would before its first call."""
    from evol.packs import load_pack

    _describe(load_pack(path))
    show_line("all templates are sound")


def _describe(pack: Pack) -> None:
    from evol.packs import STAGES

    show_line(f"{pack.name}: {pack.description} ({pack.words[0]} to {pack.words[1]} words a step) in {pack.path}")
    total = sum(pack.weights.values())
    for name, operator in pack.operators.items():
        share = pack.weights[name] / total
        show_line(f"  {name:22} {operator.family:8} {share:6.1%}  {pack.templates[name].digest}")
    for stage in STAGES:
        show_line(f"  {stage:22} {'':8} {'':6}  {pack.templates[stage].digest}")
