"""A command whose arguments are texts, which may begin with a dash."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

# what was meant as an option, known or misspelt: --name, --name=value, -x
OPTION = re.compile(r"--[A-Za-z][\w-]*(=.*)?|-[A-Za-z]", re.DOTALL)


class TextsCommand(TyperCommand):
    """Takes every argument that cannot have been meant as an option for a text, such as "-5 stars, bad"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the texts behind a `--`, in their order."""
        valued = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        options: list[str] = []
        texts: list[str] = []
        rest = iter(args)
        for argument in rest:
            if argument == "--":
                texts += rest
            elif OPTION.fullmatch(argument):
                options.append(argument)
                if argument in valued:
                    options += [value for value in [next(rest, None)] if value is not None]
            else:
                texts.append(argument)
        return super().parse_args(ctx, [*options, "--", *texts] if texts else options)
