"""The themes: which colour each meaning has on dark, light and 16-colour terminals.

The rest of the cockpit names the meaning (`$agent`, `$keep`), never a colour. No meaning is told by colour
alone: a word or a symbol stands beside it.
"""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES, Theme

MEANINGS = {
    "agent": "#b794ff",  # purple: the agent
    "step": "#2dd4bf",  # teal: its steps
    "training": "#ff8a70",  # coral: the training
    "keep": "#5fd787",  # green
    "discard": "#ff6b6b",  # red
    "measure": "#f5b83d",  # amber: a measurement, or a decision that waits for you
    "neutral": "#8a93a6",  # gray
}
LIGHT = {
    "agent": "#7c3aed",
    "step": "#0f766e",
    "training": "#c2410c",
    "keep": "#15803d",
    "discard": "#b91c1c",
    "measure": "#a16207",
    "neutral": "#5b6472",
}
ANSI = {
    "agent": "ansi_bright_magenta",
    "step": "ansi_cyan",
    "training": "ansi_bright_red",
    "keep": "ansi_green",
    "discard": "ansi_red",
    "measure": "ansi_yellow",
    "neutral": "ansi_bright_black",
}

DARK_THEME = Theme(
    name="cockpit-dark",
    primary="#8ea2c6",
    secondary=MEANINGS["step"],
    accent=MEANINGS["agent"],
    warning=MEANINGS["measure"],
    error=MEANINGS["discard"],
    success=MEANINGS["keep"],
    foreground="#d7dce5",
    background="#12151c",
    surface="#12151c",
    panel="#1b2029",
    dark=True,
    variables={**MEANINGS, "border-blurred": "#3a4252", "footer-key-foreground": "#f5b83d"},
)
LIGHT_THEME = Theme(
    name="cockpit-light",
    primary="#33507f",
    secondary=LIGHT["step"],
    accent=LIGHT["agent"],
    warning=LIGHT["measure"],
    error=LIGHT["discard"],
    success=LIGHT["keep"],
    foreground="#1f2430",
    background="#fbfbfa",
    surface="#fbfbfa",
    panel="#eceef1",
    dark=False,
    variables={**LIGHT, "border-blurred": "#c3c8d1"},
)


def _ansi(name: str, base: str) -> Theme:
    """A theme of the terminal's own 16 colours: for terminals that have no more, and for chosen palettes."""
    theme = BUILTIN_THEMES[base]
    return Theme(
        name=name,
        ansi=True,
        primary=theme.primary,
        secondary=theme.secondary,
        warning=theme.warning,
        error=theme.error,
        success=theme.success,
        accent=theme.accent,
        foreground=theme.foreground,
        background=theme.background,
        surface=theme.surface,
        panel=theme.panel,
        boost=theme.boost,
        dark=theme.dark,
        variables={**theme.variables, **ANSI},
    )


THEMES = (DARK_THEME, LIGHT_THEME, _ansi("cockpit-ansi", "ansi-dark"))
"""The key `t` goes through these; the palette offers Textual's own as well."""
