// The layers of a network that answers on a CPU: matrix products, all experts of a layer at once, and attention of
// decoding tokens over the paged cache, each of which reads its weights or keys once. AVX-512 with dot products of
// bfloat16 or 8 bits.
//
// Shapes: T tokens, K inputs, N outputs, E experts, k of them a token, D hidden size, F width of an expert, H query
// heads, G key/value heads. A packed weight is [N / 32, K / p, 32, p]: for 32 outputs at a time, words of 32 bits that
// hold p inputs (2 in bfloat16, 4 in 8 bits). A word of the input is then multiplied with all 32 at once, and sums need
// no adding up across a register. serving/kernels/__init__.py packs, serving/kernel_model.py calls.

#include <ATen/Parallel.h>
#include <immintrin.h>
#include <torch/extension.h>

#include <algorithm>
#include <vector>

namespace {

using at::BFloat16;
using at::Tensor;

constexpr int64_t kOutputs = 32;  // of a packed block
constexpr int64_t kLane = 16;     // floats of a register
constexpr int64_t kAhead = 64;    // registers of weights that are fetched before they are needed
constexpr float kLargestInput = 127, kZero = 128;

__m512 load(const BFloat16* from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

void store(BFloat16* to, __m512 values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
}

// e^x by 2^n · polynomial of the rest, relative error below 1e-6.
__m512 exp(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-87.f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.442695041f)), _MM_FROUND_TO_NEAREST_INT);
  const __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181f), x);
  __m512 p = _mm512_set1_ps(1.f / 720);
  for (const float factor : {1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f}) {
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(factor));
  }
  return _mm512_scalef_ps(p, n);
}

__m512 silu(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f);
  return _mm512_div_ps(x, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// A weight and, in 8 bits, each output's scale and 128 times the sum of its row: what inputs shifted by 128 add.
struct Weight {
  const __m512i* words;
  const float* scale;
  const float* shift;
  int64_t outputs, words_a_row;

  const __m512i* block(int64_t number) const { return words + number * words_a_row * 2; }
};

struct Bf16 {
  using Sum = __m512;
  static constexpr int64_t kPerWord = 2;

  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum add(Sum sum, __m512i weights, __m512i inputs) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)inputs);
  }
  static __m512 finish(Sum sum, const Weight&, int64_t, float) { return sum; }
  // Stores a row of K floats; returns the scale of its products.
  static float pack(const float* row, int64_t K, char* to) {
    for (int64_t i = 0; i < K; i += kLane) store(reinterpret_cast<BFloat16*>(to) + i, _mm512_loadu_ps(row + i));
    return 1;
  }
};

struct Int8 {
  using Sum = __m512i;
  static constexpr int64_t kPerWord = 4;

  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum add(Sum sum, __m512i weights, __m512i inputs) { return _mm512_dpbusd_epi32(sum, inputs, weights); }
  static __m512 finish(Sum sum, const Weight& weight, int64_t output, float input_scale) {
    const __m512 shifted = _mm512_sub_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(weight.shift + output));
    return _mm512_mul_ps(_mm512_mul_ps(shifted, _mm512_loadu_ps(weight.scale + output)), _mm512_set1_ps(input_scale));
  }
  static float pack(const float* row, int64_t K, char* to) {
    __m512 largest = _mm512_set1_ps(1e-12f);
    for (int64_t i = 0; i < K; i += kLane) largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(row + i)));
    const float steps = kLargestInput / _mm512_reduce_max_ps(largest);
    for (int64_t i = 0; i < K; i += kLane) {
      const __m512 scaled = _mm512_fmadd_ps(_mm512_loadu_ps(row + i), _mm512_set1_ps(steps), _mm512_set1_ps(kZero));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtusepi32_epi8(_mm512_cvtps_epu32(scaled)));
    }
    return 1 / steps;
  }
};

// Inputs as words, and the scale of each row.
template <class Kind>
struct Inputs {
  int64_t bytes;
  std::vector<char> storage;
  std::vector<float> scale;

  Inputs(int64_t rows, int64_t K) : bytes(K * 4 / Kind::kPerWord), storage(rows * bytes), scale(rows) {}
  void set(int64_t row, const float* values, int64_t K) { scale[row] = Kind::pack(values, K, &storage[row * bytes]); }
  const int32_t* words(int64_t row) const { return reinterpret_cast<const int32_t*>(&storage[row * bytes]); }
};

// The inputs of some rows, in groups of at most 8 whose words lie side by side: what `tile` reads in order.
struct Group {
  int64_t first, count, offset;
};

template <class Kind>
struct Panel {
  std::vector<int32_t> words;
  std::vector<float> scale;
  std::vector<Group> groups;

  void fill(const Inputs<Kind>& inputs, const std::vector<int64_t>& rows, int64_t words_a_row) {
    const int64_t count = rows.size();
    words.resize(count * words_a_row);
    for (const int64_t row : rows) scale.push_back(inputs.scale[row]);
    for (int64_t at = 0, size = 8; at < count; at += size) {
      while (size > count - at) size /= 2;
      groups.push_back({at, size, at * words_a_row});
      for (int64_t m = 0; m < size; ++m) {
        const int32_t* row = inputs.words(rows[at + m]);
        int32_t* to = &words[at * words_a_row + m];
        for (int64_t word = 0; word < words_a_row; ++word) to[word * size] = row[word];
      }
    }
  }
};

template <class Kind, int M, class Take>
void tile(const Panel<Kind>& panel, const Group& group, const Weight& weight, int64_t block, Take& take) {
  typename Kind::Sum low_sums[M], high_sums[M];
  const int32_t* inputs = &panel.words[group.offset];
  const __m512i* weights = weight.block(block);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) low_sums[m] = high_sums[m] = Kind::zero();
  for (int64_t word = 0; word < weight.words_a_row; ++word, weights += 2, inputs += M) {
    const __m512i low = _mm512_loadu_si512(weights), high = _mm512_loadu_si512(weights + 1);
    _mm_prefetch(reinterpret_cast<const char*>(weights + kAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(weights + kAhead + 1), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const __m512i input = _mm512_set1_epi32(inputs[m]);
      low_sums[m] = Kind::add(low_sums[m], low, input);
      high_sums[m] = Kind::add(high_sums[m], high, input);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const float scale = panel.scale[group.first + m];
    take(group.first + m, Kind::finish(low_sums[m], weight, block * kOutputs, scale),
         Kind::finish(high_sums[m], weight, block * kOutputs + kLane, scale));
  }
}

// One block of outputs of a panel's rows; `take(i, low, high)` gets the 2 × 16 outputs of its i-th row.
template <class Kind, class Take>
void multiply(const Panel<Kind>& panel, const Weight& weight, int64_t block, Take take) {
  for (const Group& group : panel.groups) {
    switch (group.count) {
      case 8: tile<Kind, 8>(panel, group, weight, block, take); break;
      case 4: tile<Kind, 4>(panel, group, weight, block, take); break;
      case 2: tile<Kind, 2>(panel, group, weight, block, take); break;
      default: tile<Kind, 1>(panel, group, weight, block, take);
    }
  }
}

// A row as floats, divided by its root mean square where eps is not negative (its norm's weight lies in the matrix).
void normalise(const BFloat16* row, int64_t K, double eps, float* to) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t i = 0; i < K; i += kLane) {
    const __m512 values = load(row + i);
    squares = _mm512_fmadd_ps(values, values, squares);
    _mm512_storeu_ps(to + i, values);
  }
  if (eps < 0) return;
  const __m512 scale = _mm512_set1_ps(1 / std::sqrt(_mm512_reduce_add_ps(squares) / K + eps));
  for (int64_t i = 0; i < K; i += kLane) _mm512_storeu_ps(to + i, _mm512_mul_ps(_mm512_loadu_ps(to + i), scale));
}

// The packed weight of expert number `expert` of a stack, or the whole of a plain one.
Weight weight_of(const Tensor& packed, const Tensor& scale, const Tensor& shift, int64_t expert) {
  const int64_t dims = packed.dim(), blocks = packed.size(dims - 4), words = packed.size(dims - 3);
  const int64_t outputs = blocks * kOutputs, offset = expert * blocks * words * 2;
  const bool scaled = scale.numel() > 0;
  return {static_cast<const __m512i*>(packed.data_ptr()) + offset,
          scaled ? scale.data_ptr<float>() + expert * outputs : nullptr,
          scaled ? shift.data_ptr<float>() + expert * outputs : nullptr, outputs, words};
}

template <class Kind>
Tensor linear_of(const Tensor& x_TK, const Weight& weight, double eps, const Tensor& residual_TN) {
  const int64_t T = x_TK.size(0), K = x_TK.size(1), N = weight.outputs;
  Tensor y_TN = at::empty({T, N}, x_TK.options());
  const BFloat16* x = x_TK.data_ptr<BFloat16>();
  const BFloat16* residual = residual_TN.numel() ? residual_TN.data_ptr<BFloat16>() : nullptr;
  BFloat16* y = y_TN.data_ptr<BFloat16>();
  Inputs<Kind> inputs(T, K);
  std::vector<float> row(K);
  std::vector<int64_t> rows(T);
  for (int64_t t = 0; t < T; ++t) {
    normalise(x + t * K, K, eps, row.data());
    inputs.set(t, row.data(), K);
    rows[t] = t;
  }
  Panel<Kind> panel;
  panel.fill(inputs, rows, weight.words_a_row);
  at::parallel_for(0, N / kOutputs, 1, [&](int64_t first, int64_t end) {
    for (int64_t block = first; block < end; ++block) {
      multiply(panel, weight, block, [&](int64_t t, __m512 low, __m512 high) {
        const int64_t at = t * N + block * kOutputs;
        store(y + at, residual ? _mm512_add_ps(low, load(residual + at)) : low);
        store(y + at + kLane, residual ? _mm512_add_ps(high, load(residual + at + kLane)) : high);
      });
    }
  });
  return y_TN;
}

// Where the tokens go: each active expert with its (token, place in `hidden`, weight).
struct Visit {
  int64_t token, place;
  float weight;
};

// The k best experts of a token and the softmax over them, which is the softmax over all, renormalised.
void choose(const float* logits, int64_t E, int64_t k, int64_t* choices, float* weights) {
  std::vector<int64_t> order(E);
  for (int64_t e = 0; e < E; ++e) order[e] = e;
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int64_t a, int64_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  float sum = 0;
  for (int64_t j = 0; j < k; ++j) sum += weights[j] = std::exp(logits[order[j]] - logits[order[0]]);
  for (int64_t j = 0; j < k; ++j) choices[j] = order[j], weights[j] /= sum;
}

float dot(const float* a, const float* b, int64_t length) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < length; i += kLane) sum = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum);
  return _mm512_reduce_add_ps(sum);
}

template <class Kind>
std::vector<Tensor> experts_of(const Tensor& x_TD, const Tensor& router_ED, const std::vector<Weight>& gate_up,
                               const std::vector<Weight>& down, int64_t k, double eps) {
  const int64_t T = x_TD.size(0), D = x_TD.size(1), E = router_ED.size(0), F = gate_up[0].outputs / 2;
  const BFloat16* x = x_TD.data_ptr<BFloat16>();
  Tensor logits_TE = at::empty({T, E}, router_ED.options()), weights_Tk = at::empty({T, k}, router_ED.options());
  Tensor choices_Tk = at::empty({T, k}, x_TD.options().dtype(at::kLong)), y_TD = at::empty_like(x_TD);
  float *logits = logits_TE.data_ptr<float>(), *weights = weights_Tk.data_ptr<float>();
  int64_t* choices = choices_Tk.data_ptr<int64_t>();
  BFloat16* y = y_TD.data_ptr<BFloat16>();

  Inputs<Kind> inputs(T, D);
  std::vector<float> row(D);
  std::vector<std::vector<Visit>> visits(E);
  for (int64_t t = 0; t < T; ++t) {
    normalise(x + t * D, D, eps, row.data());
    inputs.set(t, row.data(), D);
    for (int64_t e = 0; e < E; ++e) logits[t * E + e] = dot(row.data(), router_ED.data_ptr<float>() + e * D, D);
    choose(logits + t * E, E, k, choices + t * k, weights + t * k);
    for (int64_t j = 0; j < k; ++j) visits[choices[t * k + j]].push_back({t, t * k + j, weights[t * k + j]});
  }
  std::vector<int64_t> active;
  std::vector<std::vector<int64_t>> tokens(E), places(E);
  for (int64_t e = 0; e < E; ++e) {
    if (!visits[e].empty()) active.push_back(e);
    for (const Visit& visit : visits[e]) tokens[e].push_back(visit.token), places[e].push_back(visit.place);
  }

  std::vector<Panel<Kind>> before(E), after(E);
  at::parallel_for(0, active.size(), 1, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) before[active[i]].fill(inputs, tokens[active[i]], gate_up[0].words_a_row);
  });

  // A block of gate_up holds 16 gates and the 16 ups that belong to them.
  std::vector<float> hidden(T * k * F);
  const int64_t blocks = 2 * F / kOutputs;
  at::parallel_for(0, active.size() * blocks, 1, [&](int64_t first, int64_t end) {
    for (int64_t task = first; task < end; ++task) {
      const int64_t e = active[task / blocks], block = task % blocks;
      multiply(before[e], gate_up[e], block, [&](int64_t i, __m512 gate, __m512 up) {
        _mm512_storeu_ps(&hidden[places[e][i] * F + block * kLane], _mm512_mul_ps(silu(gate), up));
      });
    }
  });
  Inputs<Kind> between(T * k, F);
  at::parallel_for(0, active.size(), 1, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      for (const int64_t place : places[active[i]]) between.set(place, &hidden[place * F], F);
      after[active[i]].fill(between, places[active[i]], down[0].words_a_row);
    }
  });
  // Each thread adds up its own outputs over all experts.
  at::parallel_for(0, D / kOutputs, 1, [&](int64_t first, int64_t end) {
    std::vector<float> sums(T * kOutputs);
    for (int64_t block = first; block < end; ++block) {
      for (int64_t t = 0; t < T; ++t) {
        _mm512_storeu_ps(&sums[t * kOutputs], load(x + t * D + block * kOutputs));
        _mm512_storeu_ps(&sums[t * kOutputs + kLane], load(x + t * D + block * kOutputs + kLane));
      }
      for (const int64_t e : active) {
        multiply(after[e], down[e], block, [&](int64_t i, __m512 low, __m512 high) {
          float* to = &sums[visits[e][i].token * kOutputs];
          const __m512 weight = _mm512_set1_ps(visits[e][i].weight);
          _mm512_storeu_ps(to, _mm512_fmadd_ps(weight, low, _mm512_loadu_ps(to)));
          _mm512_storeu_ps(to + kLane, _mm512_fmadd_ps(weight, high, _mm512_loadu_ps(to + kLane)));
        });
      }
      for (int64_t t = 0; t < T; ++t) {
        store(y + t * D + block * kOutputs, _mm512_loadu_ps(&sums[t * kOutputs]));
        store(y + t * D + block * kOutputs + kLane, _mm512_loadu_ps(&sums[t * kOutputs + kLane]));
      }
    }
  });
  return {y_TD, logits_TE, choices_Tk, weights_Tk};
}

// Attention of one query head group over one sequence. `keys` and `values` find the place of a token in the cache.
template <class Place>
void attend_one(const BFloat16* q, int64_t heads, int64_t width, int64_t first, int64_t end, float scale, Place key,
                Place value, std::vector<float>& scores, std::vector<float>& out, BFloat16* to) {
  const int64_t length = end - first, padded = (length + kLane - 1) / kLane * kLane;
  for (int64_t head = 0; head < heads; ++head) {
    const BFloat16* query = q + head * width;
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int64_t s = 0; s < length; ++s) {
      const BFloat16* k = key(first + s);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t i = 0; i < width; i += 2 * kLane) {
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(query + i), (__m512bh)_mm512_loadu_si512(k + i));
      }
      scores[s] = _mm512_reduce_add_ps(sum) * scale;
    }
    for (int64_t s = length; s < padded; ++s) scores[s] = -INFINITY;
    for (int64_t s = 0; s < padded; s += kLane) most = _mm512_max_ps(most, _mm512_loadu_ps(&scores[s]));
    const __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 total = _mm512_setzero_ps();
    for (int64_t s = 0; s < padded; s += kLane) {
      const __mmask16 real = length - s >= kLane ? 0xffff : (1u << (length - s)) - 1;
      const __m512 weight = _mm512_maskz_mov_ps(real, exp(_mm512_sub_ps(_mm512_loadu_ps(&scores[s]), largest)));
      total = _mm512_add_ps(total, weight);
      _mm512_storeu_ps(&scores[s], weight);
    }
    std::fill(out.begin(), out.end(), 0.f);
    for (int64_t s = 0; s < length; ++s) {
      const BFloat16* v = value(first + s);
      const __m512 weight = _mm512_set1_ps(scores[s]);
      for (int64_t i = 0; i < width; i += kLane) {
        _mm512_storeu_ps(&out[i], _mm512_fmadd_ps(weight, load(v + i), _mm512_loadu_ps(&out[i])));
      }
    }
    const __m512 norm = _mm512_set1_ps(1 / _mm512_reduce_add_ps(total));
    for (int64_t i = 0; i < width; i += kLane) store(to + head * width + i, _mm512_mul_ps(_mm512_loadu_ps(&out[i]), norm));
  }
}

}  // namespace

// x Wᵀ (+ residual), [T, N] bfloat16; x is normalised first where eps >= 0.
Tensor linear(const Tensor& x_TK, const Tensor& packed, const Tensor& scale_N, const Tensor& shift_N, double eps,
              const Tensor& residual_TN) {
  const Weight weight = weight_of(packed, scale_N, shift_N, 0);
  return packed.scalar_type() == at::kChar ? linear_of<Int8>(x_TK, weight, eps, residual_TN)
                                           : linear_of<Bf16>(x_TK, weight, eps, residual_TN);
}

// x + Σ weight · down(silu(gate h) · up h) over the k best experts of h = x / rms(x). Returns that, the router's logits
// [T, E], the choices [T, k] and their weights.
std::vector<Tensor> experts(const Tensor& x_TD, const Tensor& router_ED, const Tensor& gate_up, const Tensor& gate_up_scale,
                            const Tensor& gate_up_shift, const Tensor& down, const Tensor& down_scale,
                            const Tensor& down_shift, int64_t k, double eps) {
  std::vector<Weight> first, second;
  for (int64_t e = 0; e < router_ED.size(0); ++e) {
    first.push_back(weight_of(gate_up, gate_up_scale, gate_up_shift, e));
    second.push_back(weight_of(down, down_scale, down_shift, e));
  }
  return gate_up.scalar_type() == at::kChar ? experts_of<Int8>(x_TD, router_ED, first, second, k, eps)
                                            : experts_of<Bf16>(x_TD, router_ED, first, second, k, eps);
}

// Rotates queries and keys of qkv [T, H + 2G, K] in place (tables [T, K], the sign of the swapped half in `sin`) and
// writes keys and values to their slots of the cache [2G, slots, K].
void rotate_and_store(Tensor qkv_TNK, const Tensor& cos_TK, const Tensor& sin_TK, Tensor cache, const Tensor& slots_T) {
  const int64_t T = qkv_TNK.size(0), N = qkv_TNK.size(1), K = qkv_TNK.size(2), both = cache.size(0);
  const int64_t G = both / 2, H = N - both, half = K / 2, slots = cache.size(1);
  const int64_t* slot = slots_T.data_ptr<int64_t>();
  at::parallel_for(0, T, 8, [&](int64_t first, int64_t end) {
    std::vector<float> turned(K);
    for (int64_t t = first; t < end; ++t) {
      const float *cos = cos_TK.data_ptr<float>() + t * K, *sin = sin_TK.data_ptr<float>() + t * K;
      BFloat16* row = qkv_TNK.data_ptr<BFloat16>() + t * N * K;
      for (int64_t n = 0; n < H + G; ++n) {
        BFloat16* head = row + n * K;
        for (int64_t i = 0; i < K; i += kLane) {
          const __m512 swapped = load(head + (i < half ? i + half : i - half));
          const __m512 straight = _mm512_mul_ps(load(head + i), _mm512_loadu_ps(cos + i));
          _mm512_storeu_ps(&turned[i], _mm512_fmadd_ps(swapped, _mm512_loadu_ps(sin + i), straight));
        }
        for (int64_t i = 0; i < K; i += kLane) store(head + i, _mm512_loadu_ps(&turned[i]));
      }
      for (int64_t n = 0; n < both; ++n) {
        std::copy_n(row + (H + n) * K, K, cache.data_ptr<BFloat16>() + (n * slots + slot[t]) * K);
      }
    }
  });
}

// Attention [N, H·K] of the first N rows of qkv, each the last token of a sequence whose `ends_N` tokens lie in the
// blocks of its row of `table_NM` (int64). A window of 0 is none.
Tensor attend(const Tensor& qkv_TNK, const Tensor& cache, const Tensor& table_NM, const Tensor& ends_N,
              int64_t block_size, int64_t window) {
  const int64_t sequences = table_NM.size(0), M = table_NM.size(1), K = qkv_TNK.size(2), G = cache.size(0) / 2;
  const int64_t H = qkv_TNK.size(1) - 2 * G, R = H / G, slots = cache.size(1);
  Tensor out_NHK = at::empty({sequences, H * K}, qkv_TNK.options());
  const BFloat16* stored = cache.data_ptr<BFloat16>();
  at::parallel_for(0, sequences * G, 1, [&](int64_t first, int64_t last) {
    std::vector<float> scores(M * block_size + kLane), out(K);
    for (int64_t task = first; task < last; ++task) {
      const int64_t n = task / G, g = task % G, end = ends_N.data_ptr<int64_t>()[n];
      const int64_t* blocks = table_NM.data_ptr<int64_t>() + n * M;
      const auto place = [&](int64_t head) {
        return [=](int64_t at) { return stored + (head * slots + blocks[at / block_size] * block_size + at % block_size) * K; };
      };
      attend_one(qkv_TNK.data_ptr<BFloat16>() + (n * qkv_TNK.size(1) + g * R) * K, R, K,
                 window > 0 ? std::max<int64_t>(0, end - window) : 0, end, 1 / std::sqrt(static_cast<float>(K)), place(g),
                 place(G + g), scores, out, out_NHK.data_ptr<BFloat16>() + (n * H + g * R) * K);
    }
  });
  return out_NHK;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("linear", &linear, pybind11::call_guard<pybind11::gil_scoped_release>());
  module.def("experts", &experts, pybind11::call_guard<pybind11::gil_scoped_release>());
  module.def("rotate_and_store", &rotate_and_store, pybind11::call_guard<pybind11::gil_scoped_release>());
  module.def("attend", &attend, pybind11::call_guard<pybind11::gil_scoped_release>());
}
