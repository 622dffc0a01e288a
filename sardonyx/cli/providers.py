"""`sardonyx providers`: what models can run on here."""

from __future__ import annotations

from dataclasses import asdict

from sardonyx.cli import common


@common.reports_errors
def providers(*, json_: common.JSON = False, debug: common.Debug = False) -> None:
    """List what models can run on, and what is missing for the rest."""
    from sardonyx.measure.runners import available_runners
    from sardonyx.providers import registry

    own, all_ = registry.availability(), available_runners()
    peers = {name: state for name, state in all_.items() if not name.startswith("sardonyx/")}
    if json_:
        common.print_json(
            {kind: [{"name": name, **asdict(state)} for name, state in group.items()]
             for kind, group in (("providers", own), ("peers", peers))}
        )  # fmt: skip
        return
    for title, group in (("Providers", own), ("Peers, for bench and demo", peers)):
        rows = [(name, "yes" if s.available else "no", s.reason, s.fix) for name, s in group.items()]
        common.print_table(title, "name", "available", "why", "fix", rows=rows)
