/* An external delegate for the tests: it takes the int8 ADD operators and computes them itself.
   Those that stand behind each other it fuses: a value in between that nobody else reads is not
   rounded to codes.

   Options: "take": "add" (what it does by default) or "none"; "fault": codes to add to each output.
   The declarations are as much as it needs of the C interface of delegates (tensorflow/lite/core/c/
   common.h, whose layout is stable): fields in their order, functions that it does not call as void*.
*/
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, FAILED = 1, INT8 = 9, ADD = 0 };

typedef struct { int size; int data[]; } IntArray;
typedef struct { float scale; int32_t zero_point; } Params;
typedef struct {
  int type;
  void* data;
  IntArray* dims;
  Params params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  void* delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct { int type; void* params; } quantization;
  void* sparsity;
  const IntArray* dims_signature;
} Tensor;
typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  void* delegate;
  bool might_have_side_effect;
} Node;
typedef struct Context Context;
typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  void* profiling_string;
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace_operator;
} Registration;
struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context*, IntArray**);
  Tensor* tensors;
  void *impl, *ResizeTensor, *ReportError, *AddTensors;
  int (*GetNodeAndRegistration)(Context*, int, Node**, Registration**);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(Context*, Registration, const IntArray*, void*);
};
typedef struct {
  void* delegate;
  IntArray *nodes_to_replace, *input_tensors, *output_tensors;
} DelegateParams;
typedef struct Delegate {
  void* data;
  int (*Prepare)(Context*, struct Delegate*);
  void *CopyFrom, *CopyTo, *FreeBuffer;
  int64_t flags;
  void* opaque_builder;
} Delegate;

static bool takes_add = true;
static int fault = 0;

typedef struct {
  int given[2], made;
  bool read_by_others;
  double* values; /* where nobody else reads them */
} Add;
typedef struct {
  int count;
  Add ops[];
} Adds;

static bool holds(const IntArray* array, int value) {
  for (int i = 0; i < array->size; ++i)
    if (array->data[i] == value) return true;
  return false;
}

static void* init(Context* context, const char* buffer, size_t length) {
  const DelegateParams* params = (const DelegateParams*)buffer;
  const IntArray* nodes = params->nodes_to_replace;
  Adds* adds = malloc(sizeof(Adds) + nodes->size * sizeof(Add));
  adds->count = nodes->size;
  for (int i = 0; i < nodes->size; ++i) {
    Node* node;
    Registration* registration;
    context->GetNodeAndRegistration(context, nodes->data[i], &node, &registration);
    Add* add = &adds->ops[i];
    add->given[0] = node->inputs->data[0];
    add->given[1] = node->inputs->data[1];
    add->made = node->outputs->data[0];
    add->read_by_others = holds(params->output_tensors, add->made);
    add->values = malloc(context->tensors[add->made].bytes * sizeof(double));
  }
  (void)length;
  return adds;
}

static void release(Context* context, void* buffer) {
  Adds* adds = buffer;
  for (int k = 0; k < adds->count; ++k) free(adds->ops[k].values);
  free(adds);
  (void)context;
}

static double real(const Context* context, const Adds* adds, int tensor, size_t i) {
  for (int k = 0; k < adds->count; ++k)
    if (adds->ops[k].made == tensor && !adds->ops[k].read_by_others) return adds->ops[k].values[i];
  const Tensor* t = &context->tensors[tensor];
  return t->params.scale * (((const int8_t*)t->data)[i] - t->params.zero_point);
}

static int invoke(Context* context, Node* node) {
  const Adds* adds = node->user_data;
  for (int k = 0; k < adds->count; ++k) {
    const Add* add = &adds->ops[k];
    Tensor* out = &context->tensors[add->made];
    for (int j = 0; j < 2; ++j)
      if (context->tensors[add->given[j]].bytes != out->bytes) return FAILED;
    for (size_t i = 0; i < out->bytes; ++i) {
      add->values[i] =
          real(context, adds, add->given[0], i) + real(context, adds, add->given[1], i);
      if (!add->read_by_others) continue;
      long code = lround(add->values[i] / out->params.scale) + out->params.zero_point + fault;
      ((int8_t*)out->data)[i] = code < -128 ? -128 : code > 127 ? 127 : code;
    }
  }
  return OK;
}

static int prepare(Context* context, Delegate* delegate) {
  IntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != OK) return FAILED;
  IntArray* taken = malloc(sizeof(IntArray) + plan->size * sizeof(int));
  taken->size = 0;
  for (int i = 0; i < plan->size && takes_add; ++i) {
    Node* node;
    Registration* registration;
    context->GetNodeAndRegistration(context, plan->data[i], &node, &registration);
    if (registration->builtin_code == ADD && context->tensors[node->outputs->data[0]].type == INT8)
      taken->data[taken->size++] = plan->data[i];
  }
  Registration kernel = {init, release, NULL, invoke, NULL, 0, "TestDelegate", 1, NULL, NULL, 0};
  int status = OK;
  if (taken->size)
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, taken, delegate);
  free(taken);
  return status;
}

void* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                    void (*report)(const char*)) {
  static Delegate delegate;
  for (size_t i = 0; i < count; ++i) {
    if (!strcmp(keys[i], "fault")) {
      fault = atoi(values[i]);
    } else if (!strcmp(keys[i], "take")) {
      takes_add = !strcmp(values[i], "add");
    } else {
      report("there is no option ");
      report(keys[i]);
      return NULL;
    }
  }
  delegate.Prepare = prepare;
  return &delegate;
}

void tflite_plugin_destroy_delegate(void* delegate) { (void)delegate; }
