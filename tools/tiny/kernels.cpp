// Fused CPU forward/backward kernels for training nemo-tiny: everything of a NemotronH layer that
// is not one plain matrix product. Rows of all documents lie one after the other ("flat"), so
// nothing is ever padded; `start`/`stop` hold each document's first and one-past-last row.
//
// Built by model.py:  g++ -O3 -march=native -ffast-math -fopenmp -shared -fPIC kernels.cpp
// -l:libblas.so.3
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>

extern "C" {
enum { RowMajor = 101, NoTrans = 111, Trans = 112 };
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float* a,
                 int lda, const float* b, int ldb, float beta, float* c, int ldc);
}

namespace {
inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
constexpr int kSpan = 16;  // tokens between saved scan states: 16 states of 8 KiB stay in L2
constexpr int kRows = 64;  // query rows of one attention block
}  // namespace

extern "C" {

// y = w * x / rms(x); rstd is kept for the backward pass.
void rmsnorm_fwd(const float* x, const float* w, float* y, float* rstd, int T, int d, float eps) {
#pragma omp parallel for
  for (int t = 0; t < T; ++t) {
    const float* a = x + (size_t)t * d;
    float* o = y + (size_t)t * d;
    float s = 0;
    for (int i = 0; i < d; ++i) s += a[i] * a[i];
    float r = 1.0f / std::sqrt(s / d + eps);
    rstd[t] = r;
    for (int i = 0; i < d; ++i) o[i] = a[i] * r * w[i];
  }
}

void rmsnorm_bwd(const float* x, const float* w, const float* rstd, const float* dy, float* dx,
                 float* dw, int T, int d) {
#pragma omp parallel
  {
    std::vector<float> acc(d, 0.0f);
#pragma omp for
    for (int t = 0; t < T; ++t) {
      const float *a = x + (size_t)t * d, *g = dy + (size_t)t * d;
      float* o = dx + (size_t)t * d;
      float r = rstd[t], s = 0;
      for (int i = 0; i < d; ++i) s += g[i] * w[i] * a[i];
      float k = s * r * r * r / d;
      for (int i = 0; i < d; ++i) {
        acc[i] += g[i] * a[i] * r;
        o[i] = g[i] * w[i] * r - a[i] * k;
      }
    }
#pragma omp critical
    for (int i = 0; i < d; ++i) dw[i] += acc[i];
  }
}

// Rows of logits become rows of d(loss)/d(logits); returns the weighted sum times scale.
double xent(float* logits, const int64_t* target, const float* weight, float* row_loss, int T,
            int V, float scale) {
  double total = 0;
#pragma omp parallel for reduction(+ : total)
  for (int t = 0; t < T; ++t) {
    float* a = logits + (size_t)t * V;
    float m = a[0];
    for (int i = 1; i < V; ++i) m = std::max(m, a[i]);
    float gold = a[target[t]], s = 0;
    for (int i = 0; i < V; ++i) {
      a[i] = std::exp(a[i] - m);
      s += a[i];
    }
    float loss = std::log(s) + m - gold;
    row_loss[t] = loss;
    float k = weight[t] * scale, q = k / s;
    for (int i = 0; i < V; ++i) a[i] *= q;
    a[target[t]] -= k;
    total += (double)loss * k;
  }
  return total;
}

// ---- Mamba-2: conv, SiLU, scan, gate, grouped norm (architecture: gate before norm, contiguous
// groups)
struct MambaShape {
  int T, docs, I, H, P, G, N, K;
};

}  // extern "C"

namespace {
// P is a template argument so that a row of the state and its sums stay in registers.
template <int P>
void scan_fwd(const MambaShape* sh, const int32_t* pos, const int32_t* start, const int32_t* stop,
              const int32_t* ckpt_at, const float* A_log, const float* D, const float* act,
              const float* dtv, float* y, float* ckpt) {
  const int I = sh->I, H = sh->H, G = sh->G, N = sh->N, C = I + 2 * G * N, hpg = H / G;
#pragma omp parallel
  {
    std::vector<float> state((size_t)N * P);
    float* S = state.data();
#pragma omp for schedule(dynamic, 1)
    for (int u = 0; u < sh->docs * H; ++u) {
      const int doc = u / H, h = u % H, g = h / hpg;
      const float A = -std::exp(A_log[h]), Dh = D[h];
      std::fill(state.begin(), state.end(), 0.0f);
      for (int t = start[doc]; t < stop[doc]; ++t) {
        if (pos[t] % kSpan == 0)
          std::memcpy(ckpt + ((size_t)(ckpt_at[doc] + pos[t] / kSpan) * H + h) * N * P, S,
                      sizeof(float) * N * P);
        const float* row = act + (size_t)t * C;
        const float *x = row + h * P, *B = row + I + g * N, *Cv = row + I + G * N + g * N;
        const float dt = dtv[(size_t)t * H + h], a = std::exp(dt * A);
        float yv[P];
        for (int p = 0; p < P; ++p) yv[p] = Dh * x[p];
        for (int n = 0; n < N; ++n) {
          const float b = dt * B[n], c = Cv[n];
          float* s = S + (size_t)n * P;
          for (int p = 0; p < P; ++p) {
            s[p] = a * s[p] + b * x[p];
            yv[p] += c * s[p];
          }
        }
        std::memcpy(y + (size_t)t * I + h * P, yv, sizeof(float) * P);
      }
    }
  }
}

template <int P>
void scan_bwd(const MambaShape* sh, const int32_t* start, const int32_t* stop,
              const int32_t* ckpt_at, const float* zx, const float* dt_bias, const float* A_log,
              const float* D, const float* act, const float* dtv, const float* dy,
              const float* ckpt, float* dzx, float* dact, float* ddt_bias, float* dA_log,
              float* dD) {
  const int I = sh->I, H = sh->H, G = sh->G, N = sh->N, C = I + 2 * G * N,
            W = 2 * I + 2 * G * N + H, hpg = H / G;
#pragma omp parallel
  {
    const size_t NP = (size_t)N * P;
    std::vector<float> states((kSpan + 1) * NP), grad(NP), dA_acc(H, 0.0f), dD_acc(H, 0.0f),
        db_acc(H, 0.0f);
#pragma omp for schedule(dynamic, 1)
    for (int u = 0; u < sh->docs * G; ++u) {
      const int doc = u / G, g = u % G;
      for (int h = g * hpg; h < (g + 1) * hpg; ++h) {
        const float A = -std::exp(A_log[h]), Dh = D[h];
        float dA = 0, dDh = 0, db = 0;
        std::fill(grad.begin(), grad.end(), 0.0f);
        float* dS = grad.data();
        const int len = stop[doc] - start[doc];
        for (int c0 = (len - 1) / kSpan * kSpan; c0 >= 0; c0 -= kSpan) {
          const int n_tok = std::min(kSpan, len - c0);
          std::memcpy(states.data(), ckpt + ((size_t)(ckpt_at[doc] + c0 / kSpan) * H + h) * NP,
                      sizeof(float) * NP);
          for (int j = 0; j < n_tok; ++j) {
            const int t = start[doc] + c0 + j;
            const float* row = act + (size_t)t * C;
            const float *x = row + h * P, *B = row + I + g * N;
            const float dt = dtv[(size_t)t * H + h], a = std::exp(dt * A);
            const float* s0 = states.data() + j * NP;
            float* s1 = states.data() + (j + 1) * NP;
            for (int n = 0; n < N; ++n) {
              const float b = dt * B[n];
              for (int p = 0; p < P; ++p) s1[n * P + p] = a * s0[n * P + p] + b * x[p];
            }
          }
          for (int j = n_tok - 1; j >= 0; --j) {
            const int t = start[doc] + c0 + j;
            const float* row = act + (size_t)t * C;
            float* drow = dact + (size_t)t * C;
            const float *x = row + h * P, *B = row + I + g * N, *Cv = row + I + G * N + g * N;
            float *dx = drow + h * P, *dB = drow + I + g * N, *dC = drow + I + G * N + g * N;
            const float dt = dtv[(size_t)t * H + h], a = std::exp(dt * A);
            const float* gy = dy + (size_t)t * I + h * P;
            const float *s0 = states.data() + j * NP, *s1 = states.data() + (j + 1) * NP;
            float dxv[P], dav[P], dotB = 0;
            for (int p = 0; p < P; ++p) dxv[p] = dav[p] = 0;
            for (int n = 0; n < N; ++n) {
              const float c = Cv[n], b = B[n];
              float *ds = dS + (size_t)n * P, dc = 0, q = 0;
              const float *a0 = s0 + (size_t)n * P, *a1 = s1 + (size_t)n * P;
              for (int p = 0; p < P; ++p) {
                const float v = ds[p] + c * gy[p];
                dc += a1[p] * gy[p];
                q += v * x[p];
                dxv[p] += b * v;
                dav[p] += v * a0[p];
                ds[p] = a * v;
              }
              dC[n] += dc;
              dB[n] += dt * q;
              dotB += b * q;
            }
            float da = 0, dd = 0;
            for (int p = 0; p < P; ++p) {
              dx[p] += dt * dxv[p] + Dh * gy[p];
              da += dav[p];
              dd += gy[p] * x[p];
            }
            dDh += dd;
            const float dl = da * a;
            dA += dl * dt;
            const float raw = zx[(size_t)t * W + I + C + h] + dt_bias[h];
            const float draw = (dotB + dl * A) * sigmoid(raw);
            dzx[(size_t)t * W + I + C + h] = draw;
            db += draw;
          }
        }
        dA_acc[h] += dA * A;
        dD_acc[h] += dDh;
        db_acc[h] += db;
      }
    }
#pragma omp critical
    for (int h = 0; h < H; ++h) {
      dA_log[h] += dA_acc[h];
      dD[h] += dD_acc[h];
      ddt_bias[h] += db_acc[h];
    }
  }
}
}  // namespace

extern "C" {
void mamba_fwd(const MambaShape* sh, const float* zx, const int32_t* pos, const int32_t* start,
               const int32_t* stop, const int32_t* ckpt_at, const float* conv_w,
               const float* conv_b, const float* dt_bias, const float* A_log, const float* D,
               const float* norm_w, float eps, float* pre, float* act, float* dtv, float* y,
               float* rstd, float* ckpt, float* out) {
  const int T = sh->T, I = sh->I, H = sh->H, P = sh->P, G = sh->G, N = sh->N, K = sh->K;
  const int C = I + 2 * G * N, W = 2 * I + 2 * G * N + H, gw = I / G;
  std::vector<float> wt((size_t)K * C);
  for (int c = 0; c < C; ++c)
    for (int k = 0; k < K; ++k) wt[(size_t)k * C + c] = conv_w[(size_t)c * K + k];
#pragma omp parallel for
  for (int t = 0; t < T; ++t) {
    float *v = pre + (size_t)t * C, *a = act + (size_t)t * C;
    std::memcpy(v, conv_b, sizeof(float) * C);
    for (int k = std::max(0, K - 1 - pos[t]); k < K; ++k) {
      const float *u = zx + (size_t)(t - (K - 1) + k) * W + I, *w = wt.data() + (size_t)k * C;
      for (int c = 0; c < C; ++c) v[c] += w[c] * u[c];
    }
    for (int c = 0; c < C; ++c) a[c] = v[c] * sigmoid(v[c]);
    const float* raw = zx + (size_t)t * W + I + C;
    for (int h = 0; h < H; ++h) {
      float r = raw[h] + dt_bias[h];
      dtv[(size_t)t * H + h] = r > 20 ? r : std::log1p(std::exp(r));
    }
  }
  if (P == 32)
    scan_fwd<32>(sh, pos, start, stop, ckpt_at, A_log, D, act, dtv, y, ckpt);
  else
    scan_fwd<64>(sh, pos, start, stop, ckpt_at, A_log, D, act, dtv, y, ckpt);
#pragma omp parallel for
  for (int t = 0; t < T; ++t)
    for (int g = 0; g < G; ++g) {
      const float *yy = y + (size_t)t * I + g * gw, *z = zx + (size_t)t * W + g * gw,
                  *w = norm_w + g * gw;
      float *o = out + (size_t)t * I + g * gw, s = 0;
      for (int i = 0; i < gw; ++i) {
        o[i] = yy[i] * z[i] * sigmoid(z[i]);
        s += o[i] * o[i];
      }
      const float r = 1.0f / std::sqrt(s / gw + eps);
      rstd[(size_t)t * G + g] = r;
      for (int i = 0; i < gw; ++i) o[i] *= r * w[i];
    }
}

// dzx and dact (scratch [T, C]) and dy (scratch [T, I]) are written; the parameter gradients are
// added to.
void mamba_bwd(const MambaShape* sh, const float* zx, const int32_t* pos, const int32_t* start,
               const int32_t* stop, const int32_t* ckpt_at, const float* conv_w,
               const float* dt_bias, const float* A_log, const float* D, const float* norm_w,
               const float* pre, const float* act, const float* dtv, const float* y,
               const float* rstd, const float* ckpt, const float* dout, float* dzx, float* dact,
               float* dy, float* dconv_w, float* dconv_b, float* ddt_bias, float* dA_log, float* dD,
               float* dnorm_w) {
  const int T = sh->T, I = sh->I, H = sh->H, P = sh->P, G = sh->G, N = sh->N, K = sh->K;
  const int C = I + 2 * G * N, W = 2 * I + 2 * G * N + H, gw = I / G;
#pragma omp parallel
  {
    std::vector<float> acc(I, 0.0f);
#pragma omp for
    for (int t = 0; t < T; ++t) {
      std::memset(dact + (size_t)t * C, 0, sizeof(float) * C);
      for (int g = 0; g < G; ++g) {
        const float *yy = y + (size_t)t * I + g * gw, *z = zx + (size_t)t * W + g * gw,
                    *w = norm_w + g * gw, *go = dout + (size_t)t * I + g * gw;
        float *dz = dzx + (size_t)t * W + g * gw, *dyy = dy + (size_t)t * I + g * gw,
              *ac = acc.data() + g * gw;
        const float r = rstd[(size_t)t * G + g];
        float s = 0;
        for (int i = 0; i < gw; ++i) {
          const float sg = sigmoid(z[i]), gate = z[i] * sg, n = yy[i] * gate * r;
          dz[i] = sg;
          s += go[i] * w[i] * n;
          ac[i] += go[i] * n;
        }
        s /= gw;
        for (int i = 0; i < gw; ++i) {
          const float sg = dz[i], gate = z[i] * sg, n = yy[i] * gate * r;
          const float dg = r * (go[i] * w[i] - n * s);
          dyy[i] = dg * gate;
          dz[i] = dg * yy[i] * sg * (1 + z[i] * (1 - sg));
        }
      }
    }
#pragma omp critical
    for (int i = 0; i < I; ++i) dnorm_w[i] += acc[i];
  }
  if (P == 32)
    scan_bwd<32>(sh, start, stop, ckpt_at, zx, dt_bias, A_log, D, act, dtv, dy, ckpt, dzx, dact,
                 ddt_bias, dA_log, dD);
  else
    scan_bwd<64>(sh, start, stop, ckpt_at, zx, dt_bias, A_log, D, act, dtv, dy, ckpt, dzx, dact,
                 ddt_bias, dA_log, dD);
#pragma omp parallel for
  for (int t = 0; t < T; ++t) {
    const float* v = pre + (size_t)t * C;
    float* g = dact + (size_t)t * C;
    for (int c = 0; c < C; ++c) {
      const float s = sigmoid(v[c]);
      g[c] *= s * (1 + v[c] * (1 - s));
    }
  }
  std::vector<float> wt((size_t)K * C);
  for (int c = 0; c < C; ++c)
    for (int k = 0; k < K; ++k) wt[(size_t)k * C + c] = conv_w[(size_t)c * K + k];
#pragma omp parallel
  {
    std::vector<float> dw((size_t)K * C, 0.0f), db(C, 0.0f);
#pragma omp for schedule(static)
    for (int t = 0; t < T; ++t) {
      const float* g = dact + (size_t)t * C;
      float* du = dzx + (size_t)t * W + I;
      std::memset(du, 0, sizeof(float) * C);
      for (int k = 0; k < K; ++k) {  // u[t] feeds row t + (K-1-k) through tap k
        const int s = t + K - 1 - k;
        if (s >= T || pos[s] < K - 1 - k) continue;
        const float *gs = dact + (size_t)s * C, *w = wt.data() + (size_t)k * C;
        for (int c = 0; c < C; ++c) du[c] += w[c] * gs[c];
      }
      for (int k = std::max(0, K - 1 - pos[t]); k < K; ++k) {
        const float* u = zx + (size_t)(t - (K - 1) + k) * W + I;
        float* w = dw.data() + (size_t)k * C;
        for (int c = 0; c < C; ++c) w[c] += g[c] * u[c];
      }
      for (int c = 0; c < C; ++c) db[c] += g[c];
    }
#pragma omp critical
    for (int c = 0; c < C; ++c) {
      dconv_b[c] += db[c];
      for (int k = 0; k < K; ++k) dconv_w[(size_t)c * K + k] += dw[(size_t)k * C + c];
    }
  }
}

// ---- causal grouped-query attention without positions; qkv rows are [Hq | Hkv keys | Hkv values]
// * hd
void attn_fwd(const float* qkv, const int32_t* start, const int32_t* stop, int docs, int Hq,
              int Hkv, int hd, float* out, float* lse) {
  const int W = (Hq + 2 * Hkv) * hd, rep = Hq / Hkv;
  const float scale = 1.0f / std::sqrt((float)hd);
#pragma omp parallel
  {
    std::vector<float> buf;
#pragma omp for schedule(dynamic, 1)
    for (int u = 0; u < docs * Hq; ++u) {
      const int doc = u / Hq, h = u % Hq, kv = h / rep, b = start[doc], L = stop[doc] - b;
      const float *q = qkv + (size_t)b * W + h * hd, *k = qkv + (size_t)b * W + (Hq + kv) * hd,
                  *v = k + Hkv * hd;
      for (int i0 = 0; i0 < L; i0 += kRows) {
        const int n = std::min(kRows, L - i0), m = i0 + n;
        buf.resize((size_t)n * m);
        cblas_sgemm(RowMajor, NoTrans, Trans, n, m, hd, scale, q + (size_t)i0 * W, W, k, W, 0,
                    buf.data(), m);
        for (int i = 0; i < n; ++i) {
          float* s = buf.data() + (size_t)i * m;
          const int valid = i0 + i + 1;
          float mx = s[0], sum = 0;
          for (int j = 1; j < valid; ++j) mx = std::max(mx, s[j]);
          for (int j = 0; j < valid; ++j) {
            s[j] = std::exp(s[j] - mx);
            sum += s[j];
          }
          const float inv = 1.0f / sum;
          for (int j = 0; j < valid; ++j) s[j] *= inv;
          for (int j = valid; j < m; ++j) s[j] = 0;
          lse[(size_t)(b + i0 + i) * Hq + h] = mx + std::log(sum);
        }
        cblas_sgemm(RowMajor, NoTrans, NoTrans, n, hd, m, 1, buf.data(), m, v, W, 0,
                    out + (size_t)(b + i0) * Hq * hd + h * hd, Hq * hd);
      }
    }
  }
}

void attn_bwd(const float* qkv, const int32_t* start, const int32_t* stop, int docs, int Hq,
              int Hkv, int hd, const float* out, const float* lse, const float* dout, float* dqkv) {
  const int W = (Hq + 2 * Hkv) * hd, rep = Hq / Hkv, O = Hq * hd;
  const float scale = 1.0f / std::sqrt((float)hd);
#pragma omp parallel
  {
    std::vector<float> pb, db;
#pragma omp for schedule(dynamic, 1)
    for (int u = 0; u < docs * Hkv; ++u) {
      const int doc = u / Hkv, kv = u % Hkv, b = start[doc], L = stop[doc] - b;
      const float *k = qkv + (size_t)b * W + (Hq + kv) * hd, *v = k + Hkv * hd;
      float *dk = dqkv + (size_t)b * W + (Hq + kv) * hd, *dv = dk + Hkv * hd;
      for (int t = 0; t < L; ++t) {
        std::memset(dk + (size_t)t * W, 0, sizeof(float) * hd);
        std::memset(dv + (size_t)t * W, 0, sizeof(float) * hd);
      }
      for (int h = kv * rep; h < (kv + 1) * rep; ++h)
        for (int i0 = 0; i0 < L; i0 += kRows) {
          const int n = std::min(kRows, L - i0), m = i0 + n;
          const float* q = qkv + (size_t)(b + i0) * W + h * hd;
          const float *o = out + (size_t)(b + i0) * O + h * hd,
                      *go = dout + (size_t)(b + i0) * O + h * hd;
          pb.resize((size_t)n * m);
          db.resize((size_t)n * m);
          cblas_sgemm(RowMajor, NoTrans, Trans, n, m, hd, scale, q, W, k, W, 0, pb.data(), m);
          cblas_sgemm(RowMajor, NoTrans, Trans, n, m, hd, 1, go, O, v, W, 0, db.data(), m);
          for (int i = 0; i < n; ++i) {
            float *p = pb.data() + (size_t)i * m, *d = db.data() + (size_t)i * m, dot = 0;
            const float l = lse[(size_t)(b + i0 + i) * Hq + h];
            const int valid = i0 + i + 1;
            for (int j = 0; j < hd; ++j) dot += o[(size_t)i * O + j] * go[(size_t)i * O + j];
            for (int j = 0; j < valid; ++j) {
              p[j] = std::exp(p[j] - l);
              d[j] = p[j] * (d[j] - dot);
            }
            for (int j = valid; j < m; ++j) p[j] = d[j] = 0;
          }
          cblas_sgemm(RowMajor, NoTrans, NoTrans, n, hd, m, scale, db.data(), m, k, W, 0,
                      dqkv + (size_t)(b + i0) * W + h * hd, W);
          cblas_sgemm(RowMajor, Trans, NoTrans, m, hd, n, scale, db.data(), m, q, W, 1, dk, W);
          cblas_sgemm(RowMajor, Trans, NoTrans, m, hd, n, 1, pb.data(), m, go, O, 1, dv, W);
        }
    }
  }
}

// ---- routed experts: rows sorted by expert, one pair of products per expert, relu squared between
// order[r] = t * k + slot for sorted row r; first[e]..first[e+1] are expert e's rows.
void moe_fwd(const float* u, const float* up, const float* down, const float* weight,
             const int32_t* order, const int32_t* first, int T, int k, int d, int m, int E,
             float* hidden, float* y, float* out) {
#pragma omp parallel
  {
    std::vector<float> x, r;
#pragma omp for schedule(dynamic, 1)
    for (int e = 0; e < E; ++e) {
      const int b = first[e], n = first[e + 1] - b;
      if (n == 0) continue;
      x.resize((size_t)n * d);
      r.resize((size_t)n * m);
      for (int i = 0; i < n; ++i)
        std::memcpy(&x[(size_t)i * d], u + (size_t)(order[b + i] / k) * d, sizeof(float) * d);
      float* hid = hidden + (size_t)b * m;
      cblas_sgemm(RowMajor, NoTrans, Trans, n, m, d, 1, x.data(), d, up + (size_t)e * m * d, d, 0,
                  hid, m);
      for (size_t i = 0; i < (size_t)n * m; ++i) {
        const float v = std::max(hid[i], 0.0f);
        r[i] = v * v;
      }
      cblas_sgemm(RowMajor, NoTrans, Trans, n, d, m, 1, r.data(), m, down + (size_t)e * d * m, m, 0,
                  y + (size_t)b * d, d);
      for (int i = 0; i < n; ++i) {  // unsorted copy so that the sum below has a fixed order
        const float w = weight[order[b + i]];
        const float* s = y + (size_t)(b + i) * d;
        float* o = out + (size_t)order[b + i] * d;
        for (int j = 0; j < d; ++j) o[j] = w * s[j];
      }
    }
  }
}

void moe_bwd(const float* u, const float* up, const float* down, const float* weight,
             const int32_t* order, const int32_t* first, int T, int k, int d, int m, int E,
             const float* hidden, const float* y, const float* dout, float* du, float* dweight,
             float* dup, float* ddown) {
#pragma omp parallel
  {
    std::vector<float> x, r, gy, gh;
#pragma omp for schedule(dynamic, 1)
    for (int e = 0; e < E; ++e) {
      const int b = first[e], n = first[e + 1] - b;
      if (n == 0) continue;
      x.resize((size_t)n * d);
      gy.resize((size_t)n * d);
      r.resize((size_t)n * m);
      gh.resize((size_t)n * m);
      for (int i = 0; i < n; ++i) {
        const int s = order[b + i];
        const float *g = dout + (size_t)(s / k) * d, *yy = y + (size_t)(b + i) * d, w = weight[s];
        std::memcpy(&x[(size_t)i * d], u + (size_t)(s / k) * d, sizeof(float) * d);
        float dot = 0;
        for (int j = 0; j < d; ++j) {
          dot += g[j] * yy[j];
          gy[(size_t)i * d + j] = w * g[j];
        }
        dweight[s] = dot;
      }
      const float* hid = hidden + (size_t)b * m;
      for (size_t i = 0; i < (size_t)n * m; ++i) {
        const float v = std::max(hid[i], 0.0f);
        r[i] = v * v;
      }
      cblas_sgemm(RowMajor, Trans, NoTrans, d, m, n, 1, gy.data(), d, r.data(), m, 0,
                  ddown + (size_t)e * d * m, m);
      cblas_sgemm(RowMajor, NoTrans, NoTrans, n, m, d, 1, gy.data(), d, down + (size_t)e * d * m, m,
                  0, gh.data(), m);
      for (size_t i = 0; i < (size_t)n * m; ++i) gh[i] *= 2 * std::max(hid[i], 0.0f);
      cblas_sgemm(RowMajor, Trans, NoTrans, m, d, n, 1, gh.data(), m, x.data(), d, 0,
                  dup + (size_t)e * m * d, d);
      cblas_sgemm(RowMajor, NoTrans, NoTrans, n, d, m, 1, gh.data(), m, up + (size_t)e * m * d, d,
                  0, x.data(), d);
      for (int i = 0; i < n; ++i)
        std::memcpy(du + (size_t)order[b + i] * d, &x[(size_t)i * d], sizeof(float) * d);
    }
  }
}

}  // extern "C"
