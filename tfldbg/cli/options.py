"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.errors import UsageError
from tfldbg.run.runtimes import RUNTIMES

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Thresholds

REFERENCE = "What to compare with"
RUN = "What to run on, and how"
REPORTS = "Reports to write"
PRINTED = "What is printed"
MEASURED = "What to measure besides"
JUDGING = "How it is judged"
"""The panels of ``--help``."""

Model = Annotated[str, typer.Argument(metavar="MODEL.tflite", help="The .tflite file.")]
Keras = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="The QAT or float Keras model: .h5, .keras or SavedModel folder.",
        rich_help_panel=REFERENCE,
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="Allow a Keras file or SavedModel that can run code (Lambda layers, foreign "
        "classes) or reach other files.",
        rich_help_panel=REFERENCE,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Load the Keras model anew, and keep nothing of it for the next run.",
        rich_help_panel=REFERENCE,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help=".npz, .npy, .h5, a folder of .npy or of pictures; first axis samples. Float data is "
        "in real units, integer data in the input's own type is taken as codes.",
        rich_help_panel=RUN,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="What 0 and 255 of pictures, and of uint8 data, stand for, as in training: 0,1 or "
        "-1,1.",
        rich_help_panel=RUN,
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=KEY",
        help="Which array, or which Keras input, belongs to which input of the model. Repeatable.",
        rich_help_panel=RUN,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="At most so many samples.", show_default="64", rich_help_panel=RUN
    ),
]
Steps = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="For models that keep a state: N samples in a row are the steps of one stream. The "
        "state is reset before each stream and kept from step to step.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="S", help="Of the random samples used without --data.", rich_help_panel=RUN
    ),
]
Runtime = Annotated[
    str,
    typer.Option(
        metavar="|".join(RUNTIMES),
        help="The kernels to run: three sets of LiteRT, TensorFlow's interpreter, or TensorFlow "
        "Lite for Microcontrollers.",
        rich_help_panel=RUN,
        autocompletion=lambda: list(RUNTIMES),
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="How long loading the model, or one sample, may take.",
        rich_help_panel=RUN,
    ),
]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        metavar="GIB",
        help="How much memory all processes that run models may take together.",
        show_default="3/4 of the machine's",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="How many processes of this machine share the work.",
        show_default="this one alone",
        rich_help_panel=RUN,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Let the workers of a Dask cluster share the work: tcp://HOST:8786.",
        rich_help_panel=RUN,
    ),
]
Delegate = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="An external delegate, a shared library that takes operators over from the runtime.",
        rich_help_panel=RUN,
    ),
]
DelegateOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="What the delegate is given. Repeatable.", rich_help_panel=RUN
    ),
]
Signature = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Which signature, where there are several.", rich_help_panel=RUN
    ),
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="F", help="Write JSON to F; - is stdout.", rich_help_panel=REPORTS
    ),
]
Html = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="F.html",
        help="Write a page of its own that needs no network to F.html.",
        rich_help_panel=REPORTS,
    ),
]
Csv = Annotated[
    str | None,
    typer.Option(
        "--csv",
        metavar="F",
        help="Write a row an operator to F; - is stdout.",
        rich_help_panel=REPORTS,
    ),
]
Junit = Annotated[
    str | None,
    typer.Option(
        "--junit",
        metavar="F.xml",
        help="Write JUnit XML, a test case an operator; - is stdout.",
        rich_help_panel=REPORTS,
    ),
]
Markdown = Annotated[
    str | None,
    typer.Option(
        "--markdown",
        metavar="F.md",
        help="Write Markdown for a pull request; - is stdout.",
        rich_help_panel=REPORTS,
    ),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="A rule that decides the exit code, such as 'sqnr>=30db', 'CONV_2D:local<=1lsb' or "
        "'diverged'. Repeatable.",
        show_default="diverged",
        rich_help_panel=JUDGING,
    ),
]
Tolerances = Annotated[
    str | None,
    typer.Option(
        metavar="F.toml", help="A file of such rules; see docs/ci.md.", rich_help_panel=JUDGING
    ),
]


def _json_name(target: str | None) -> str | None:
    if target is not None and not target.endswith(".json"):
        raise UsageError(
            f"--model-explorer {target}: it writes several files, and needs a name for them",
            hint="name a file that ends in .json",
        )
    return target


ModelExplorer = Annotated[
    str | None,
    typer.Option(
        "--model-explorer",
        metavar="F.json",
        callback=_json_name,
        help="Write node data for Model Explorer to F.json and beside it; tfldbg view shows it.",
        rich_help_panel=REPORTS,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print the verdict alone, and no progress.", rich_help_panel=PRINTED
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print too what was matched with what, versions and times.",
        rich_help_panel=PRINTED,
    ),
]
Everything = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Every operator in the table, not only those that matter.",
        rich_help_panel=PRINTED,
    ),
]
LocalLsb = Annotated[
    float,
    typer.Option(
        metavar="LSB",
        help="How far a quantized operator may be off by itself.",
        rich_help_panel=JUDGING,
    ),
]
FloatTolerance = Annotated[
    float,
    typer.Option(
        metavar="R",
        help="The same for float operators, as a share of their range.",
        rich_help_panel=JUDGING,
    ),
]
HybridTolerance = Annotated[
    float,
    typer.Option(
        metavar="R",
        help="The same for float operators with integer weights (RMSE/RMS).",
        rich_help_panel=JUDGING,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="LABELS",
        help="Show the accuracy of every side: an array of the --data, a .npy, a .npz with one "
        "array or FILE.npz:KEY; class numbers or one-hot. OUTPUT=LABELS for another output.",
        rich_help_panel=MEASURED,
    ),
]
TopK = Annotated[
    int, typer.Option(metavar="K", help="For top-k accuracy.", rich_help_panel=MEASURED)
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Show the final outputs of every side and how many are off by more than T (real "
        "units). Never decides the verdict.",
        show_default="0.01",
        rich_help_panel=MEASURED,
    ),
]
Worst = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="Compare the K samples with the largest error operator by operator.",
        rich_help_panel=MEASURED,
    ),
]
Histograms = Annotated[
    bool,
    typer.Option(
        "--histograms",
        help="Histograms of every operator's errors, in LSB.",
        rich_help_panel=MEASURED,
    ),
]

Metric = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Measure a metric of your own for every operator: an entry point of the group "
        "tfldbg.metrics, or package.module:function. Repeatable.",
        rich_help_panel=MEASURED,
    ),
]


def parse_inputs(pairs: Sequence[str] | None) -> Mapping[str, str]:
    """Split ``NAME=KEY`` pairs.

    Raises:
        UsageError: A pair holds no ``=``.
    """
    mapping = {}
    for pair in pairs or ():
        name, equals, key = pair.partition("=")
        if not (name and equals and key):
            raise UsageError(
                f"--input '{pair}' is not of the form NAME=KEY",
                hint="for example --input image=x",
            )
        mapping[name] = key
    return mapping


def parse_scale(scale: str | None) -> tuple[float, float] | None:
    """Split ``LOW,HIGH``.

    Raises:
        UsageError: It holds something else.
    """
    if scale is None:
        return None
    try:
        low, high = (float(part) for part in scale.split(","))
    except ValueError as error:
        raise UsageError(
            f"--scale '{scale}' is not of the form LOW,HIGH", hint="for example --scale -1,1"
        ) from error
    return low, high


def thresholds(local_lsb: float, float_tolerance: float, hybrid_tolerance: float) -> Thresholds:
    """Return the thresholds that the options ask for.

    Raises:
        UsageError: One of them is no limit.
    """
    from tfldbg.diagnose.model import Thresholds

    return Thresholds(
        local_lsb=local_lsb, float_relative=float_tolerance, hybrid_relative=hybrid_tolerance
    )
