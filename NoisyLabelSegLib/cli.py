"""The command ``noisylabelseg``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from NoisyLabelSegLib import __version__
from NoisyLabelSegLib.errors import InputError

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: a fault of the program; 2: something given cannot be used; 3: some of many cases failed; 130: Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = _parser().parse_args(given)
        return int(parsed.run(parsed))
    except InputError as error:
        return _end("error", str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return _end("stopped", "nothing half-done has been left behind.", INTERRUPTED)
    except Exception as error:  # the last resort: a person gets a sentence, who asks for more gets it all
        if "--debug" in given:
            raise
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return _end("error", f"Something unforeseen happened ({reason}); add --debug to see where.", FAILURE)


def _end(kind: str, sentence: str, code: int) -> int:
    from NoisyLabelSegLib.commands.console import tell

    tell(kind, sentence, "bold red")
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'.")


def _command(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """A command that is imported only when it is called."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(import_module(f"NoisyLabelSegLib.commands.{module}"), function)(arguments))

    return run


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("noisylabelseg", description="Turn coarse segmentations into expert-like ones. Not for diagnosis.")
    parser.add_argument("--version", action="version", version=f"NoisyLabelSeg {__version__}")
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an unforeseen fault happened")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_refine(commands.add_parser("refine", parents=[common], help="refine one segmentation, or many"))
    _add_uncertainty(commands.add_parser("uncertainty", parents=[common], help="segment, say how sure, doubt labels"))
    _add_segment(commands.add_parser("segment", parents=[common], help="segment from the image alone"))
    _add_models(commands.add_parser("models", parents=[common], help="list, show, verify and import models"), common)
    demo = commands.add_parser("demo", parents=[common], help="refine a sample that is part of the program")
    demo.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: ./noisylabelseg-demo")
    demo.add_argument("--overwrite", action="store_true", help="replace the files of an earlier demonstration")
    _add_device(demo)
    demo.set_defaults(run=_command("demo", "run"))
    worker = commands.add_parser("worker", parents=[common], help="compute for 3D Slicer, which starts this itself")
    worker.add_argument("--idle", type=_seconds, default=600, metavar="SECONDS", help="end when unused; default: 600")
    worker.set_defaults(run=_command("worker", "run"))
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"give a number of seconds, not '{text}'")
    return value


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, gpu or one such as cuda:1")


def _add_refine(parser: argparse.ArgumentParser) -> None:
    parser.description = "Refine IMAGE's coarse MASK, or, with --cases, many. The inputs are never changed."
    parser.set_defaults(run=_command("refine", "run"))
    add = parser.add_argument
    add("image", type=Path, nargs="?", metavar="IMAGE", help=".nii, .nii.gz, .nrrd, .mha, .mhd or a DICOM folder")
    add("mask", type=Path, nargs="?", metavar="MASK", help="3D Slicer's .seg.nrrd or a label map")
    add("-m", "--model", required=True, help="a model's name (see 'noisylabelseg models') or its folder")
    add("-o", "--output", type=Path, required=True, help="OUT.seg.nrrd or a label map; with --cases a folder")
    add("--stages", type=int, choices=range(1, 10), metavar="K", help="upper bound, 1 to 9; default: the model's")
    add("--all-stages", action="store_true", help="write every stage, as OUT_stage1 and so on")
    add("--report", type=Path, metavar="FILE.html", help="a report with pictures, for a person")
    add("--figures", type=Path, metavar="FILE.json", help="measurements, settings and origin, for a program")
    add("--segments", nargs="+", action="extend", default=[], metavar="NAME", help="refine these only; default: all")
    _add_device(parser)
    add("--from-nothing", action="store_true", help="start without a mask, over the whole image")
    add("--overwrite", action="store_true", help="replace existing outputs")
    add("--cases", type=Path, metavar="CSV|FOLDER", help="columns image, mask, id; or images/ and masks/ subfolders")
    add("--reports", action="store_true", help="with --cases: a report for each case")


def _add_uncertainty(parser: argparse.ArgumentParser) -> None:
    parser.description = "Segment IMAGE, say how sure that is and, with LABELS, which of them look wrong."
    parser.set_defaults(run=_command("uncertainty", "run"))
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help=".nii, .nii.gz, .nrrd, .mha, .mhd or a DICOM folder")
    add("labels", type=Path, nargs="?", metavar="LABELS", help="3D Slicer's .seg.nrrd or a label map")
    add("--segments", nargs="+", action="extend", default=[], metavar="NAME", help="doubt these only; default: all")
    _add_imaging(parser)


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.description = "Segment IMAGE from nothing but the image, and say how sure that is."
    parser.set_defaults(run=_command("uncertainty", "run_segment"))
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help=".nii, .nii.gz, .nrrd, .mha, .mhd or a DICOM folder")
    add("--roi", type=Path, metavar="MASK", help="a segmentation: look only there; default: the whole image")
    _add_imaging(parser)


def _add_imaging(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-m", "--model", required=True, help="a model's name (see 'noisylabelseg models') or its folder")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for all files, made when missing")
    add(
        "--channel",
        type=Path,
        dest="channels",
        action="append",
        default=[],
        metavar="FILE",
        help="a further channel on IMAGE's grid, for models of several; repeated in the model's order",
    )
    add("--mirror", action="store_true", help="average the predictions for mirrored images; slower")
    _add_device(parser)
    add("--overwrite", action="store_true", help="replace an earlier result")


def _add_models(parser: argparse.ArgumentParser, common: _Parser) -> None:
    parser.set_defaults(run=_command("models", "show_all"))
    actions = parser.add_subparsers(metavar="ACTION", parser_class=_Parser)
    for action, function, text in (
        ("show", "show", "everything a model says about itself"),
        ("verify", "verify", "prove that a model's weights are whole and fit its network"),
    ):
        one = actions.add_parser(action, parents=[common], help=text)
        one.add_argument("name", metavar="NAME")
        one.set_defaults(run=_command("models", function))
    adding = actions.add_parser("import", parents=[common], help="copy a model among your own")
    adding.add_argument("source", type=Path, metavar="FOLDER_OR_ZIP")
    adding.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
    adding.set_defaults(run=_command("models", "add"))
