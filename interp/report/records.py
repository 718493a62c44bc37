"""What was asked and of what: the provenance of all scores of a page, as it is shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from interp.core.errors import InterpError
from interp.report.panels import Panel
from interp.report.results import TaskResult

FACTS = ("name", "architecture", "revision", "dtype", "backend", "weight_processing", "weights_sha256")


def records(prepared: Sequence[tuple[TaskResult, tuple[Panel, ...]]]) -> dict[str, Any]:
    """What was asked and of what: a row per task and measure, and every record in full."""
    records = [(result.name, one.provenance) for result, _ in prepared for one in result.scores]
    first = records[0][1]
    for _, record in records:
        if record.model != first.model:
            raise InterpError(
                "write one report",
                f"the scores are of two models ({first.model.get('name')}, {record.model.get('name')}, "
                "or differently loaded)",
                "write a report for each",
            )
    asked = [
        {
            "task": name,
            "measure": record.measure,
            "direction": record.direction or "–",
            "key": record.key()[:12],
            "options": ", ".join(
                f"{key} = {_said(value)}" for key, value in sorted(record.options.items()) if key != "direction"
            ),
        }
        for name, record in records
    ]
    facts = [
        (key.replace("_", " "), _said(value)) for key, value in sorted(first.model.items(), key=_place) if value is not None
    ]
    code = first.code.get("revision")
    if code:
        facts.append(("code", f"{str(code)[:12]}{' with local changes' if first.code.get('dirty') else ''}"))
    facts += [
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(first.versions.items()) if version)),
        ("device", first.device),
        ("computed", first.date),
    ]
    prompts = [
        {
            "task": result.name,
            **{key: _said(value) for key, value in sorted(result.scores[0].provenance.task.items()) if key != "name"},
        }
        for result, _ in prepared
    ]
    return {"facts": facts, "asked": asked, "prompts": prompts, "json": _full(records)}


def _full(records: Sequence[tuple[str, Any]]) -> str:
    """Every record, a line each, and first what all have in common."""
    told = [{"task": name, **{k: v for k, v in asdict(record).items() if k != "task"}, "prompts": record.task}
            for name, record in records]
    common = {key: value for key, value in told[0].items() if all(one.get(key) == value for one in told)}
    own = ({key: value for key, value in one.items() if key not in common} for one in told)
    lines = [json.dumps(one, ensure_ascii=True, sort_keys=True) for one in own]
    return json.dumps({"all": common}, indent=1, ensure_ascii=True, sort_keys=True) + "\n\n" + "\n\n".join(lines)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)


def _place(item: tuple[str, Any]) -> tuple[int, str]:
    """Facts of a model in the order of ``FACTS``, then by name."""
    return FACTS.index(item[0]) if item[0] in FACTS else len(FACTS), item[0]
