"""Android's standard tool: ``benchmark_model`` of LiteRT, and its output files.

With ``--output_filepath`` it writes, after its last run, the bytes of every output of the subgraph
one after the other, in the order of the file's outputs and without names, shapes or padding
(LiteRT, tflite/tools/benchmark/benchmark_tflite_model.cc, ``OutputSaver``).  Inputs are files with
exactly the bytes of the tensor; the names of inputs in its options only have to agree with each
other (``PopulateInputValueFiles``, ``Init``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.device.tensors import size_of, split
from tfldbg.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor

_SCRIPT = """\
#!/system/bin/sh
# Runs exposed.tflite and model.tflite once on every sample, with LiteRT's benchmark_model:
#     sh run.sh /data/local/tmp/benchmark_model [ITS OPTIONS, such as --use_gpu=true]
# outputs/ and untouched/ then hold one file of raw outputs for each sample.
if [ ! -x "$1" ]; then
  echo "usage: sh run.sh /path/of/benchmark_model [its options]; '$1' cannot be run" >&2
  exit 2
fi
case $1 in
  /*) tool=$1 ;;
  *) tool=$PWD/$1 ;;
esac
shift
cd "$(dirname "$0")" || exit 2
rm -rf outputs untouched
mkdir outputs untouched || exit 2
run() {
  graph=$1
  number=$2
  target=$3/$number.bin
  shift 3
  "$tool" --graph="$graph" --input_layer=@NAMES@ --input_layer_shape=@SHAPES@ \\
    --input_layer_value_files=@FILES@ --output_filepath="$target" \\
    --num_runs=1 --min_secs=0 --warmup_runs=0 --warmup_min_secs=0 "$@" >log.txt 2>&1
  status=$?
  if [ $status -ne 0 ] || [ ! -s "$target" ]; then
    cat log.txt >&2
    echo "sample $number of $graph failed (exit code $status); a benchmark_model that writes" >&2
    echo "nothing is too old for --output_filepath" >&2
    exit 1
  fi
}
for number in @NUMBERS@; do
  run exposed.tflite "$number" outputs "$@"
  run model.tflite "$number" untouched "$@"
done
echo "@COUNT@ samples are in outputs/ and untouched/"
"""


def sample_name(number: int) -> str:
    """Return the base name of the files of a sample."""
    return f"{number:05d}"


def input_file(number: int, place: int) -> str:
    """Return the path of one sample of one input inside a kit."""
    return f"inputs/{sample_name(number)}.{place}.bin"


def run_script(inputs: Sequence[Tensor], shapes: Sequence[Sequence[int]], count: int) -> str:
    """Return the script that runs the tool once on every sample.

    Args:
        inputs: The inputs of the model.
        shapes: The shape of one sample of each input, batch included.
        count: The number of samples.

    Raises:
        UsageError: The tool does not accept one of the inputs.
    """
    for tensor, shape in zip(inputs, shapes, strict=True):
        if not shape:
            raise UsageError(
                f"input '{tensor.name}' is a scalar, which benchmark_model does not accept",
                hint="record on a machine with Python: --for board",
            )
    names = [f"input{place}" for place in range(len(inputs))]
    files = [f"input{p}:inputs/$number.{p}.bin" for p in range(len(inputs))]
    values = {
        "NAMES": ",".join(names),
        "SHAPES": ":".join(",".join(str(d) for d in shape) for shape in shapes),
        "FILES": ",".join(files),
        "NUMBERS": " ".join(sample_name(number) for number in range(count)),
        "COUNT": str(count),
    }
    script = _SCRIPT
    for key, value in values.items():
        script = script.replace(f"@{key}@", value)
    return script


def read_dumps(folder: Path, tensors: Sequence[Tensor], limit: int | None) -> Iterator[list[bytes]]:
    """Yield the bytes of every output for each sample.

    Args:
        folder: The folder with the files ``00000.bin``, ``00001.bin``, ...
        tensors: The outputs of the file that ran.
        limit: The number of first samples to read, or None for all.

    Raises:
        CaptureError: A sample is missing, or the size of a file is not that of the outputs.
    """
    for path in _dump_files(folder)[:limit]:
        yield split(path.read_bytes(), tensors, str(path))


def leading_outputs(folder: Path, tensors: Sequence[Tensor]) -> int:
    """Return the number of first tensors that the files hold, or of all if no number fits."""
    size = _dump_files(folder)[0].stat().st_size
    ends = list(accumulate(size_of(tensor) for tensor in tensors))
    return 1 + ends.index(size) if size in ends else len(tensors)


def _dump_files(folder: Path) -> list[Path]:
    """Return the file of every sample in order, and check that none is missing."""
    found = sorted(folder.glob("*.bin"))
    for number, path in enumerate(found):
        expected = folder / f"{sample_name(number)}.bin"
        if path != expected:
            raise CaptureError(
                f"'{folder}' does not hold sample {number}: expected '{expected.name}', found "
                f"'{path.name}'",
                hint="run the samples again; files count from 00000.bin without a gap",
            )
    if not found:
        raise CaptureError(
            f"'{folder}' holds no sample: expected 00000.bin, 00001.bin, ...",
            hint="run the kit's run.sh on the device, then adb pull its folder 'outputs'",
        )
    return found
