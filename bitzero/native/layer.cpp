// The passes of a training step that cost a CPU most, as XLA FFI handlers; shapes are in functions.py, and every width is
// a multiple of 32.

#include "answers.h"
#include "attention.h"
#include "convolve.h"
#include "decode.h"
#include "linear.h"
#include "muon.h"

// Whether products with bf16 factors can be had.
extern "C" int bitzero_halves() { return kHalves; }

XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_normed_forward, normed_forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Attr<bool>("gated")
                                  .Attr<bool>("integer").Attr<bool>("half").Attr<float>("floor"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_normed_backward, normed_backward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                                  .Ret<F32>().Attr<bool>("gated").Attr<bool>("integer").Attr<bool>("half")
                                  .Attr<float>("floor")
                                  .Attr<int64_t>("sequence").Attr<int64_t>("every"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_attend_forward, attend_forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<S32>().Ret<F32>().Attr<int64_t>("heads").Attr<int64_t>("groups")
                                  .Attr<bool>("norm"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_attend_backward, attend_backward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<S32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>()
                                  .Ret<F32>().Ret<F32>().Attr<int64_t>("heads").Attr<int64_t>("groups")
                                  .Attr<bool>("norm"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_convolve_forward, convolve_forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<S32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_convolve_backward, convolve_backward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<S32>().Arg<F32>()
                                  .Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_newton_schulz, newton_schulz,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Attr<int64_t>("steps").Attr<float>("c0")
                                  .Attr<float>("c1").Attr<float>("c2").Attr<bool>("half"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_answers_forward, answers_forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<S32>().Ret<F32>()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Attr<float>("temperature")
                                  .Attr<int64_t>("without"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_answers_backward, answers_backward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<S32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Attr<float>("temperature")
                                  .Attr<int64_t>("without"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_draw_tokens, draw_tokens,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<S32>().Arg<F32>()
                                  .Ret<ffi::Buffer<ffi::S32>>().Ret<F32>().Attr<int64_t>("without"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(bitzero_decode_layers, decode_layers,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<S32>().Arg<S32>().Arg<S32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Attr<int64_t>("heads")
                                  .Attr<bool>("norm").Attr<bool>("integer").Attr<float>("floor"));
