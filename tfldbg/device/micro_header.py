"""The C++ header that records on a microcontroller: the samples, and code to print the tensors."""

from __future__ import annotations

from collections.abc import Sequence

_HEADER = r"""// Prints every output of an exposed model as lines of text, for tfldbg import.
// Written by tfldbg kit. Call tfldbg_record(interpreter) after AllocateTensors().
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// Where the text goes. Define it before including this file, on Arduino for example as
// #define TFLDBG_PRINT(text) Serial.print(text)
#ifndef TFLDBG_PRINT
#define TFLDBG_PRINT(text) fputs(text, stdout)
#endif

// Bytes on one line of text.
#ifndef TFLDBG_CHUNK
#define TFLDBG_CHUNK 32
#endif

// The inputs of each sample, one behind the other.
static const uint8_t tfldbg_inputs[@COUNT@][@SIZE@] = {
@ROWS@
};

inline void tfldbg_print_line(size_t sample, size_t output, size_t offset,
                              const uint8_t* bytes, size_t size) {
  char line[2 * TFLDBG_CHUNK + 8];
  snprintf(line, sizeof(line), "TFLDBG %lu ", (unsigned long)sample);
  TFLDBG_PRINT(line);
  snprintf(line, sizeof(line), "%lu %lu ", (unsigned long)output, (unsigned long)offset);
  TFLDBG_PRINT(line);
  uint16_t crc = 0xFFFF;
  char* end = line;
  for (size_t i = 0; i < size; ++i) {
    crc = (uint16_t)(crc ^ (bytes[i] << 8));
    for (int bit = 0; bit < 8; ++bit) {
      crc = (uint16_t)((crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    *end++ = "0123456789abcdef"[bytes[i] >> 4];
    *end++ = "0123456789abcdef"[bytes[i] & 15];
  }
  snprintf(end, 8, " %04x\n", (unsigned)crc);
  TFLDBG_PRINT(line);
}

inline int tfldbg_failed(const char* reason) {
  TFLDBG_PRINT("TFLDBG failed: ");
  TFLDBG_PRINT(reason);
  TFLDBG_PRINT("\n");
  return 1;
}

// Returns 0 when every sample was printed. A template, so that this file needs no header of
// TensorFlow Lite for Microcontrollers, whose place differs from project to project.
template <class Interpreter>
int tfldbg_record(Interpreter& interpreter) {
  TFLDBG_PRINT("\nTFLDBG begin\n");
  const size_t count = sizeof(tfldbg_inputs) / sizeof(tfldbg_inputs[0]);
  for (size_t sample = 0; sample < count; ++sample) {
    if (interpreter.Reset() != 0) return tfldbg_failed("Reset()");
    const uint8_t* next = tfldbg_inputs[sample];
    size_t left = sizeof(tfldbg_inputs[sample]);
    for (size_t i = 0; i < interpreter.inputs_size(); ++i) {
      const size_t size = interpreter.input(i)->bytes;
      if (size > left) return tfldbg_failed("this model takes other inputs");
      memcpy(interpreter.input(i)->data.raw, next, size);
      next += size;
      left -= size;
    }
    if (left != 0) return tfldbg_failed("this model takes other inputs");
    if (interpreter.Invoke() != 0) return tfldbg_failed("Invoke()");
    for (size_t i = 0; i < interpreter.outputs_size(); ++i) {
      const uint8_t* bytes = (const uint8_t*)interpreter.output(i)->data.raw;
      const size_t size = interpreter.output(i)->bytes;
      for (size_t offset = 0; offset < size; offset += TFLDBG_CHUNK) {
        const size_t rest = size - offset;
        tfldbg_print_line(sample, i, offset, bytes + offset,
                          rest < TFLDBG_CHUNK ? rest : TFLDBG_CHUNK);
      }
    }
  }
  char line[32];
  snprintf(line, sizeof(line), "TFLDBG end %lu\n", (unsigned long)count);
  TFLDBG_PRINT(line);
  return 0;
}
"""


def record_header(samples: Sequence[bytes]) -> str:
    """Return the header.

    Args:
        samples: The consecutive bytes of the inputs of each sample; all of the same length and not
            empty.
    """
    rows = ",\n".join("{" + ",".join(map(str, sample)) + "}" for sample in samples)
    header = _HEADER.replace("@COUNT@", str(len(samples)))
    return header.replace("@SIZE@", str(len(samples[0]))).replace("@ROWS@", rows)
