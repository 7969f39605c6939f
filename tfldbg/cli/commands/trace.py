"""``tfldbg trace``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.commands.report import show
from tfldbg.cli.reports import Reports, View


def trace(
    model: o.Model,
    keras: o.Keras = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A sound .tflite of the same model, or a recording: .h5 or .npz.",
            rich_help_panel=o.REFERENCE,
        ),
    ] = None,
    against_runtime: Annotated[
        str | None,
        typer.Option(
            metavar="RUNTIME",
            help="Compare with the same file under other kernels.",
            rich_help_panel=o.REFERENCE,
            autocompletion=lambda: list(o.RUNTIMES),
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compare with an emulation of TFLite in float arithmetic (emulated, "
            "float-ranges or fake-quant-ranges), or with a function of your own: "
            "package.module:function, or an entry point of the group tfldbg.references.",
            rich_help_panel=o.REFERENCE,
            autocompletion=lambda: ["emulated", "float-ranges", "fake-quant-ranges"],
        ),
    ] = None,
    data: o.Data = None,
    scale: o.Scale = None,
    given: o.Input = None,
    samples: o.Samples = None,
    steps: o.Steps = 1,
    seed: o.Seed = 0,
    runtime: o.Runtime = "xnnpack",
    delegate: o.Delegate = None,
    delegate_option: o.DelegateOption = None,
    signature: o.Signature = None,
    timeout: o.Timeout = 600,
    memory_limit: o.MemoryLimit = None,
    workers: o.Workers = None,
    scheduler: o.Scheduler = None,
    dump: Annotated[
        str | None,
        typer.Option(
            metavar="F.h5",
            help="Record every tensor of both sides, and the statistics.",
            rich_help_panel=o.REPORTS,
        ),
    ] = None,
    json: o.Json = None,
    html: o.Html = None,
    csv: o.Csv = None,
    junit: o.Junit = None,
    markdown: o.Markdown = None,
    model_explorer: o.ModelExplorer = None,
    fail_on: o.FailOn = None,
    tolerances: o.Tolerances = None,
    everything: o.Everything = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    unsafe: o.Unsafe = False,
    no_cache: o.NoCache = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
    labels: o.Labels = None,
    top_k: o.TopK = 5,
    tolerance: o.Tolerance = None,
    worst: o.Worst = 0,
    histograms: o.Histograms = False,
    compounding: Annotated[
        bool,
        typer.Option(
            "--compounding",
            help="Measure which operators cause the final error.",
            rich_help_panel=o.MEASURED,
        ),
    ] = False,
    by_step: Annotated[
        bool,
        typer.Option(
            "--by-step",
            help="Tell the errors of each time step of a recurrent network.",
            rich_help_panel=o.MEASURED,
        ),
    ] = False,
    metric: o.Metric = None,
) -> None:
    """Name the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.diagnose.limits import read_rules

    rules = read_rules(fail_on or (), tolerances)
    reports = Reports(
        json=json,
        html=html,
        csv=csv,
        junit=junit,
        markdown=markdown,
        model_explorer=model_explorer,
    )
    reports.check(model, keras, against, data, labels, tolerances, dump=dump)
    session.check_rules(rules, model)
    with session.limited(timeout=timeout, memory=memory_limit), ProgressBar(quiet) as progress:
        result = session.trace(
            model,
            keras=keras,
            against=against,
            against_runtime=against_runtime,
            reference=reference,
            data=data,
            samples=samples,
            steps=steps,
            seed=seed,
            runtime=runtime,
            delegate=delegate,
            delegate_options=delegate_option,
            signature=signature,
            inputs=o.parse_inputs(given),
            unsafe=unsafe,
            cached=not no_cache,
            dump=dump,
            thresholds=o.thresholds(local_lsb, float_tolerance, hybrid_tolerance),
            progress=progress,
            labels=labels,
            top_k=top_k,
            tolerance=tolerance,
            worst=worst,
            histograms=histograms,
            compounding=compounding,
            by_step=by_step,
            pictures=html is not None,
            metrics=metric,
            workers=workers,
            scheduler=scheduler,
            scale=o.parse_scale(scale),
        )
    show(
        result,
        rules,
        reports,
        View(everything=everything, histograms=histograms, quiet=quiet, verbose=verbose),
    )
