"""`mpsr completion`: the script with which a shell completes commands, options, levels and tags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script for completion in a shell.

    It completes commands, options, levels, and the tags in the journal.

    \b
    Examples:
      echo 'eval "$(mpsr completion bash)"' >>~/.bashrc
      echo 'eval "$(mpsr completion zsh)"' >>~/.zshrc
      mpsr completion fish >~/.config/fish/completions/mpsr.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "mpsr", "_MPSR_COMPLETE").source())
