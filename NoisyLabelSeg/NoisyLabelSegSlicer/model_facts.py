"""What the panel shows of a model's description, which may come from a stranger: as plain text, or escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from NoisyLabelSegLib.bundle import Label, ModelDescription, Quality, TrainingData
from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegSlicer.translation import _

Content = Mapping[str, Any]
"""A model's `configs/model.json`, as the worker gives it."""


def described(content: Content) -> ModelDescription:
    """The typed description; InputError when it is not one."""
    return convert(ModelDescription, dict(content), _("The model's description"))


def summary(content: Content) -> str:
    """What decides whether a model comes into question: image, task, licence, measured quality; plain text."""
    d = described(content)
    quality = _("not measured")
    if d.quality:
        first = d.quality[0]
        quality = _("{metric} {value} on {cases} cases").format(
            metric=first.metric, value=_value(first), cases=first.cases
        )
    return " · ".join((f"{d.modality}, {d.anatomy}", d.kind, d.licence, quality))


def value_warning(content: Content, low: float, high: float) -> str:
    """Say that a volume, whose values run from ``low`` to ``high``, is not what the model was made for."""
    description = described(content)
    if any(kind.fits(low, high) for kind in description.expected_intensity):
        return ""  # what is merely not certain is told with the result
    return description.remark_on_values(low, high)


def unknown_segments(content: Content, names: Sequence[str]) -> list[str]:
    """Those of the segments that the model does not know by their names; one of a single structure takes any."""
    description = described(content)
    return [name for name in names if description.structure_of(name) is None]


def details(content: Content, folder: str = "") -> str:
    """Everything a model says about itself, as HTML in which the model's own texts are but text."""
    d = described(content)
    rows = "".join(f"<tr><td><b>{_text(name)}</b>&nbsp;</td><td>{value}</td></tr>" for name, value in _facts(d, folder))
    return f"<h3>{_text(f'{d.name} {d.version}')}</h3><table>{rows}</table>{_qualities(d.quality)}"


def _facts(d: ModelDescription, folder: str) -> Iterator[tuple[str, str]]:
    settings = ", ".join(f"{key} = {value}" for key, value in d.method_arguments.items())
    yield _("Intended use"), _text(d.intended_use)
    yield _("Not for"), _text(d.not_for)
    yield _("Task"), _text(f"{d.kind} ({d.method}{': ' if settings else ''}{settings})")
    yield _("Image"), _text(f"{d.modality}, {d.anatomy}")
    yield _("Values"), _text(f" {_('or')} ".join(map(str, d.expected_intensity)) or _("any"))
    yield _("Structures"), "<br>".join(map(_structure, d.labels))
    yield _("Licence"), _text(d.licence)
    yield _("Trained on"), "<br>".join(map(_training, d.training_data)) or _text(_("not said"))
    yield _("Weights"), _text(f"SHA-256 {d.weights.sha256}")
    if folder:
        yield _("Folder"), _text(folder)


def _structure(label: Label) -> str:
    code = "#" + "".join(f"{round(255 * part):02x}" for part in label.color)
    return f'<span style="background-color:{code}">&nbsp;&nbsp;&nbsp;</span> {_text(label.name)}'


def _training(data: TrainingData) -> str:
    name = _text(data.name)
    linked = f'<a href="{_text(data.url)}">{name}</a>' if data.url else name
    return "<br>".join(filter(None, (f"{linked}, {_text(data.licence)}", _text(data.citation))))


def _qualities(qualities: Sequence[Quality]) -> str:
    if not qualities:
        return f"<p>{_text(_('Its quality was not measured.'))}</p>"
    table = [(_("Metric"), _("Value"), _("Data"), _("Cases"), _("Note"))]
    table += [(q.metric, _value(q), q.dataset, str(q.cases), q.note) for q in qualities]
    head, *rows = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in table]
    lines = "".join(f"<tr>{row}</tr>" for row in (head.replace("td>", "th>"), *rows))
    return f'<h4>{_text(_("Measured quality"))}</h4><table border="1" cellspacing="0" cellpadding="3">{lines}</table>'


def _value(quality: Quality) -> str:
    return f"{quality.value:.4g} {quality.unit or ''}".rstrip()


def _text(text: str) -> str:
    return escape(text).replace("\n", "<br>")
