//! The small operations of a decoder step on f32 rows.
//!
//! Every function gives the same bits on every instruction set (see
//! [`kernels`](super::kernels)). Slices of different lengths are processed up to the shorter one.

use super::kernels::{Kernels, LANES, Lane, Simd, Task};

/// `y = x / sqrt(mean(x²) + eps) · weight`.
///
/// # Shapes
///
/// `x`, `weight`, `y`: `[d_model]`.
pub fn rmsnorm(kernels: Kernels, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    kernels.run(RmsNorm { x, weight, eps, y });
}

/// Rotary positions of one head in place: the pair `(x[i], x[i + n])` is turned by the angle whose
/// cosine and sine are `cos[i]`, `sin[i]`, with `n = cos.len()`. Values from `2n` on stay.
///
/// # Shapes
///
/// `x`: `[head_dim]`; `cos`, `sin`: `[rotary_dim / 2]`.
pub fn rope(kernels: Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n = cos.len().min(sin.len()).min(x.len() / 2);
    let (low, rest) = x.split_at_mut(n);
    kernels.run(Rope {
        low,
        high: &mut rest[..n],
        cos: &cos[..n],
        sin: &sin[..n],
    });
}

/// `gate = silu(gate) · up`, with silu(x) = x / (1 + e^-x).
pub fn silu_mul(kernels: Kernels, gate: &mut [f32], up: &[f32]) {
    kernels.run(GateMul::<false> { gate, up });
}

/// `gate = gelu(gate) · up`, with the tanh form of gelu.
pub fn gelu_tanh_mul(kernels: Kernels, gate: &mut [f32], up: &[f32]) {
    kernels.run(GateMul::<true> { gate, up });
}

/// `y += a · x`.
pub fn add_scaled(kernels: Kernels, y: &mut [f32], a: f32, x: &[f32]) {
    kernels.run(AddScaled { y, a, x });
}

/// `y += x`.
pub fn add(kernels: Kernels, y: &mut [f32], x: &[f32]) {
    add_scaled(kernels, y, 1.0, x);
}

/// `y *= a`.
pub fn scale(y: &mut [f32], a: f32) {
    for y in y {
        *y *= a;
    }
}

/// `Σ a · b`, in 16 partial sums of every 16th product.
pub fn dot(kernels: Kernels, a: &[f32], b: &[f32]) -> f32 {
    kernels.run(Dot { a, b })
}

/// Softmax in place. A row without a finite largest value becomes NaN.
pub fn softmax(kernels: Kernels, x: &mut [f32]) {
    kernels.run(Softmax { x });
}

/// e^x in place, within 2 units in the last place; below -87.7 it is 0, above 88 it saturates at
/// about 1.7e38.
pub fn exp_in_place(kernels: Kernels, x: &mut [f32]) {
    kernels.run(Exp { x });
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first with few bits so that `n · LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Largest and smallest exponents of [`Simd::pow2`]; the smallest stands for zero.
const EXP2_MAX: f32 = 127.0;
const EXP2_MIN: f32 = -127.0;
/// (e^f - 1 - f) / f² for |f| <= ln 2 / 2, highest power first (Cephes `expf`).
const EXP_POLY: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    0.166_666_65,
    0.5,
];
/// (2^f - 1) / f for |f| <= 1/2, highest power first (Cephes `exp2f`).
const EXP2_POLY: [f32; 6] = [
    1.535_336_2e-4,
    1.339_887_4e-3,
    9.618_437e-3,
    5.550_332_5e-2,
    0.240_226_48,
    std::f32::consts::LN_2,
];

/// e^x in every lane; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let n = s.mul(x, s.splat(LOG2_E));
    let n = s.round(s.max(s.splat(EXP2_MIN), s.min(s.splat(EXP2_MAX), n)));
    let f = s.fma(n, s.splat(-LN2_HIGH), x);
    let f = s.fma(n, s.splat(-LN2_LOW), f);
    // Where n was clamped, f is far outside; keep the polynomial finite.
    let f = s.max(s.splat(-0.5), s.min(s.splat(0.5), f));
    let mut p = s.splat(EXP_POLY[0]);
    for c in &EXP_POLY[1..] {
        p = s.fma(p, f, s.splat(*c));
    }
    let p = s.fma(p, s.mul(f, f), s.add(f, s.splat(1.0)));
    s.mul(p, s.pow2(n))
}

/// 2^x in every lane, for x below 127.5; below -126.5 exactly 0; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(s.splat(EXP2_MIN), x);
    let n = s.round(x);
    let f = s.sub(x, n);
    let mut p = s.splat(EXP2_POLY[0]);
    for c in &EXP2_POLY[1..] {
        p = s.fma(p, f, s.splat(*c));
    }
    s.mul(s.fma(p, f, s.splat(1.0)), s.pow2(n))
}

/// The first values of `x` in a vector, the rest `fill`.
#[inline(always)]
pub(crate) fn padded(x: &[f32], fill: f32) -> Lane<f32> {
    let mut lane = [fill; LANES];
    lane[..x.len()].copy_from_slice(x);
    lane
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Task for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let square = Dot {
            a: self.x,
            b: self.x,
        }
        .run(s);
        let mean = square / self.x.len().max(1) as f32;
        let inverse = s.splat(1.0 / (mean + self.eps).sqrt());
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (w, w_rest) = self.weight.as_chunks::<LANES>();
        let (y, y_rest) = self.y.as_chunks_mut::<LANES>();
        for ((x, w), y) in x.iter().zip(w).zip(y) {
            s.store(s.mul(s.mul(s.load(x), inverse), s.load(w)), y);
        }
        let inverse = 1.0 / (mean + self.eps).sqrt();
        for ((x, w), y) in x_rest.iter().zip(w_rest).zip(y_rest) {
            *y = x * inverse * w;
        }
    }
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Task for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let n = self.a.len().min(self.b.len());
        let (a, a_rest) = self.a[..n].as_chunks::<LANES>();
        let (b, b_rest) = self.b[..n].as_chunks::<LANES>();
        let mut acc = s.splat(0.0);
        for (a, b) in a.iter().zip(b) {
            acc = s.fma(s.load(a), s.load(b), acc);
        }
        if !a_rest.is_empty() {
            let (a, b) = (padded(a_rest, 0.0), padded(b_rest, 0.0));
            acc = s.fma(s.load(&a), s.load(&b), acc);
        }
        s.sum(acc)
    }
}

struct AddScaled<'a> {
    y: &'a mut [f32],
    a: f32,
    x: &'a [f32],
}

impl Task for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.x.len().min(self.y.len());
        let (x, x_rest) = self.x[..n].as_chunks::<LANES>();
        let (y, y_rest) = self.y[..n].as_chunks_mut::<LANES>();
        let a = s.splat(self.a);
        for (x, y) in x.iter().zip(y) {
            s.store(s.fma(a, s.load(x), s.load(y)), y);
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            *y = self.a.mul_add(*x, *y);
        }
    }
}

struct Rope<'a> {
    low: &'a mut [f32],
    high: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Task for Rope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (low, low_rest) = self.low.as_chunks_mut::<LANES>();
        let (high, high_rest) = self.high.as_chunks_mut::<LANES>();
        let (cos, cos_rest) = self.cos.as_chunks::<LANES>();
        let (sin, sin_rest) = self.sin.as_chunks::<LANES>();
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (a, b, c, t) = (s.load(low), s.load(high), s.load(cos), s.load(sin));
            s.store(s.sub(s.mul(a, c), s.mul(b, t)), low);
            s.store(s.add(s.mul(a, t), s.mul(b, c)), high);
        }
        let rest = low_rest.iter_mut().zip(high_rest);
        for (((low, high), c), t) in rest.zip(cos_rest).zip(sin_rest) {
            (*low, *high) = (*low * c - *high * t, *low * t + *high * c);
        }
    }
}

struct GateMul<'a, const GELU: bool> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

/// sqrt(2 / π) · 2 and the cubic factor of gelu's tanh form, as tanh(u) = 2·sigmoid(2u) - 1.
const GELU_SCALE: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gate_mul<S: Simd, const GELU: bool>(s: S, g: S::F, up: S::F) -> S::F {
    let arg = if GELU {
        let cubic = s.mul(s.mul(g, g), s.mul(g, s.splat(GELU_CUBIC)));
        s.mul(s.splat(-GELU_SCALE), s.add(g, cubic))
    } else {
        s.sub(s.splat(0.0), g)
    };
    let one = s.splat(1.0);
    s.mul(s.div(g, s.add(one, exp(s, arg))), up)
}

impl<const GELU: bool> Task for GateMul<'_, GELU> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.gate.len().min(self.up.len());
        let (gate, gate_rest) = self.gate[..n].as_chunks_mut::<LANES>();
        let (up, up_rest) = self.up[..n].as_chunks::<LANES>();
        for (gate, up) in gate.iter_mut().zip(up) {
            s.store(gate_mul::<S, GELU>(s, s.load(gate), s.load(up)), gate);
        }
        if !gate_rest.is_empty() {
            let (mut g, up) = (padded(gate_rest, 0.0), padded(up_rest, 0.0));
            s.store(gate_mul::<S, GELU>(s, s.load(&g), s.load(&up)), &mut g);
            gate_rest.copy_from_slice(&g[..gate_rest.len()]);
        }
    }
}

struct Exp<'a> {
    x: &'a mut [f32],
}

impl Task for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks_mut::<LANES>();
        for x in x {
            s.store(exp(s, s.load(x)), x);
        }
        if !rest.is_empty() {
            let mut last = padded(rest, 0.0);
            s.store(exp(s, s.load(&last)), &mut last);
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

struct Softmax<'a> {
    x: &'a mut [f32],
}

impl Task for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks_mut::<LANES>();
        let mut last = padded(rest, f32::NEG_INFINITY);
        let mut peak = s.load(&last);
        for x in x.iter() {
            peak = s.max(peak, s.load(x));
        }
        let peak = s.splat(s.largest(peak));
        let mut sum = s.splat(0.0);
        for x in x.iter_mut() {
            let e = exp(s, s.sub(s.load(x), peak));
            sum = s.add(sum, e);
            s.store(e, x);
        }
        let e = exp(s, s.sub(s.load(&last), peak));
        sum = s.add(sum, e);
        s.store(e, &mut last);
        let inverse = s.splat(1.0 / s.sum(sum));
        for x in x.iter_mut() {
            s.store(s.mul(s.load(x), inverse), x);
        }
        s.store(s.mul(s.load(&last), inverse), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::kernels::Isa;
    use super::super::testing::{Random, extremes, kernels};
    use super::*;

    const LENGTHS: [usize; 6] = [1, 15, 16, 33, 64, 577];

    fn close(got: &[f32], want: impl Iterator<Item = f64>, tolerance: f64) {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(*got) - want).abs();
            assert!(
                error <= tolerance * want.abs().max(1e-6),
                "{i}: {got} {want}"
            );
        }
    }

    /// Runs `f` with every instruction set, wants the same bits, returns them.
    fn same_everywhere(f: impl Fn(Kernels) -> Vec<f32>) -> Vec<f32> {
        let want = f(Kernels::with(Isa::Scalar).unwrap());
        for k in kernels() {
            for (a, b) in want.iter().zip(f(k)) {
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{}",
                    k.isa()
                );
            }
        }
        want
    }

    #[test]
    fn rmsnorm_is_right() {
        let mut random = Random::new(21);
        for n in LENGTHS {
            let (x, w) = (random.gauss(n), random.gauss(n));
            let y = same_everywhere(|k| {
                let mut y = vec![0.0; n];
                rmsnorm(k, &x, &w, 1e-5, &mut y);
                y
            });
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            let inverse = 1.0 / (mean + 1e-5).sqrt();
            let want = x.iter().zip(&w);
            close(
                &y,
                want.map(|(x, w)| f64::from(*x) * inverse * f64::from(*w)),
                1e-6,
            );
        }
    }

    #[test]
    fn exp_is_right_at_all_sizes() {
        let mut x: Vec<f32> = (-1750..=1760).map(|i| i as f32 * 0.05).collect();
        x.extend([0.0, -0.0, 1e-45, -1e-45]);
        let y = same_everywhere(|k| {
            let mut y = x.clone();
            exp_in_place(k, &mut y);
            y
        });
        for (x, y) in x.iter().zip(&y) {
            let want = f64::from(*x).exp();
            let error = (f64::from(*y) - want).abs() / want;
            assert!(
                error < 3e-7 || (*x < -87.3 && *y <= f32::MIN_POSITIVE),
                "{x}: {y} {want}"
            );
        }
        let ends = same_everywhere(|k| {
            let mut y = vec![
                f32::NEG_INFINITY,
                -1e30,
                -104.0,
                f32::NAN,
                1e30,
                f32::INFINITY,
            ];
            exp_in_place(k, &mut y);
            y
        });
        assert_eq!(ends[..3], [0.0; 3]);
        assert!(ends[3].is_nan() && ends[4] > 1e38 && ends[5] > 1e38);
    }

    #[test]
    fn gates_are_right() {
        let mut random = Random::new(22);
        for n in LENGTHS {
            let gate: Vec<f32> = random.gauss(n).iter().map(|x| x * 5.0).collect();
            let up = random.gauss(n);
            let silu = same_everywhere(|k| {
                let mut y = gate.clone();
                silu_mul(k, &mut y, &up);
                y
            });
            let pairs = || {
                gate.iter()
                    .zip(&up)
                    .map(|(g, u)| (f64::from(*g), f64::from(*u)))
            };
            close(
                &silu,
                pairs().map(|(g, u)| g / (1.0 + (-g).exp()) * u),
                2e-6,
            );
            let gelu = same_everywhere(|k| {
                let mut y = gate.clone();
                gelu_tanh_mul(k, &mut y, &up);
                y
            });
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = |g: f64| (root * (g + 0.044715 * g.powi(3))).tanh();
            for (got, (g, u)) in gelu.iter().zip(pairs()) {
                let want = 0.5 * g * (1.0 + tanh(g)) * u;
                assert!((f64::from(*got) - want).abs() < 2e-6 * want.abs() + 1e-7);
            }
        }
        let mut y = [-200.0, 200.0, -1e30, 0.0];
        silu_mul(Kernels::best(), &mut y, &[1.0; 4]);
        assert!(y[0].abs() < 1e-30 && y[1] == 200.0 && y[3] == 0.0, "{y:?}");
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_masked_values_out() {
        for n in LENGTHS {
            let mut x: Vec<f32> = Random::new(23).gauss(n).iter().map(|x| x * 20.0).collect();
            if n > 20 {
                x[3] = f32::NEG_INFINITY;
            }
            let y = same_everywhere(|k| {
                let mut y = x.clone();
                softmax(k, &mut y);
                y
            });
            let peak = x.iter().fold(f32::MIN, |m, x| m.max(*x));
            let terms: Vec<f64> = x.iter().map(|x| f64::from(x - peak).exp()).collect();
            let sum: f64 = terms.iter().sum();
            for (got, term) in y.iter().zip(terms) {
                assert!((f64::from(*got) - term / sum).abs() < 1e-6);
            }
            assert!(n <= 20 || y[3] == 0.0);
        }
    }

    #[test]
    fn rope_turns_pairs_and_leaves_the_rest() {
        let mut random = Random::new(24);
        for (n, rotary) in [(64, 64), (80, 40), (16, 2), (128, 128)] {
            let x = random.gauss(n);
            let angles = random.gauss(rotary / 2);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            let y = same_everywhere(|k| {
                let mut y = x.clone();
                rope(k, &mut y, &cos, &sin);
                y
            });
            let half = rotary / 2;
            for i in 0..half {
                let (a, b) = (x[i], x[i + half]);
                assert!((y[i] - (a * cos[i] - b * sin[i])).abs() < 1e-6);
                assert!((y[i + half] - (a * sin[i] + b * cos[i])).abs() < 1e-6);
            }
            assert_eq!(x[rotary..], y[rotary..]);
        }
    }

    #[test]
    fn dot_and_add_scaled() {
        let mut random = Random::new(25);
        for n in LENGTHS {
            let (a, b) = (random.gauss(n), random.gauss(n));
            let got = same_everywhere(|k| vec![dot(k, &a, &b)])[0];
            let want: f64 = a
                .iter()
                .zip(&b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            assert!((f64::from(got) - want).abs() < 1e-5 * n as f64);
            let y = same_everywhere(|k| {
                let mut y = a.clone();
                add_scaled(k, &mut y, 0.75, &b);
                y
            });
            for i in 0..n {
                assert_eq!(y[i], 0.75f32.mul_add(b[i], a[i]));
            }
        }
    }

    #[test]
    fn extreme_values_agree() {
        let x = extremes();
        same_everywhere(|k| {
            let mut all = Vec::new();
            let mut y = vec![0.0; x.len()];
            rmsnorm(k, &x, &x, 1e-6, &mut y);
            all.extend(&y);
            for f in [silu_mul, gelu_tanh_mul] {
                let mut y = x.clone();
                f(k, &mut y, &x);
                all.extend(&y);
            }
            let mut y = x.clone();
            softmax(k, &mut y);
            all.extend(&y);
            let mut y = x.clone();
            exp_in_place(k, &mut y);
            all.extend(&y);
            all
        });
    }
}
