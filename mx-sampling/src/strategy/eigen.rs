//! Eigenvalues and vectors of a small symmetric matrix, in plain IEEE arithmetic.

/// Sweeps per eigenvalue before giving up; a finite matrix needs a handful.
const MAX_SWEEPS: usize = 60;

/// `A = Σ values[m]·v_m·v_mᵀ`, values not sorted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    /// Vector `m` is `vectors[m·n..(m + 1)·n]`.
    pub(crate) vectors: Vec<f64>,
}

/// Decomposes a symmetric `n × n` matrix, given by rows: Householder reduction to tridiagonal form, then the
/// implicit QL algorithm.
pub(crate) fn decompose(matrix: &[f64], n: usize) -> Eigen {
    let mut work = Work {
        n,
        v: matrix.to_vec(),
        d: vec![0.0; n],
        e: vec![0.0; n],
    };
    if n > 0 {
        work.tridiagonalise();
        work.diagonalise();
    }
    Eigen {
        values: work.d,
        vectors: work.v,
    }
}

struct Work {
    n: usize,
    /// The matrix, later the vectors: column `c`, row `r` at `c·n + r`.
    v: Vec<f64>,
    d: Vec<f64>,
    e: Vec<f64>,
}

impl Work {
    fn at(&self, row: usize, column: usize) -> f64 {
        self.v[column * self.n + row]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.v[column * self.n + row] = value;
    }

    fn tridiagonalise(&mut self) {
        let n = self.n;
        for j in 0..n {
            self.d[j] = self.at(n - 1, j);
        }
        for i in (1..n).rev() {
            let scale: f64 = self.d[..i].iter().map(|x| x.abs()).sum();
            let mut h = 0.0;
            if scale == 0.0 {
                self.e[i] = self.d[i - 1];
                for j in 0..i {
                    self.d[j] = self.at(i - 1, j);
                    self.set(i, j, 0.0);
                    self.set(j, i, 0.0);
                }
            } else {
                h = self.reflect(i, scale);
            }
            self.d[i] = h;
        }
        self.accumulate();
    }

    /// One Householder reflection of the leading block; returns half the squared norm of its vector.
    fn reflect(&mut self, i: usize, scale: f64) -> f64 {
        let n = self.n;
        let mut h = 0.0;
        for x in &mut self.d[..i] {
            *x /= scale;
            h += *x * *x;
        }
        let f = self.d[i - 1];
        let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
        self.e[i] = scale * g;
        h -= f * g;
        self.d[i - 1] = f - g;
        self.e[..i].fill(0.0);
        for j in 0..i {
            let f = self.d[j];
            self.set(j, i, f);
            let mut g = self.e[j] + self.at(j, j) * f;
            for k in j + 1..i {
                let x = self.v[j * n + k];
                g += x * self.d[k];
                self.e[k] += x * f;
            }
            self.e[j] = g;
        }
        let mut f = 0.0;
        for j in 0..i {
            self.e[j] /= h;
            f += self.e[j] * self.d[j];
        }
        let half = f / (h + h);
        for j in 0..i {
            self.e[j] -= half * self.d[j];
        }
        for j in 0..i {
            let (f, g) = (self.d[j], self.e[j]);
            for k in j..i {
                self.v[j * n + k] -= f * self.e[k] + g * self.d[k];
            }
            self.d[j] = self.at(i - 1, j);
            self.set(i, j, 0.0);
        }
        h
    }

    fn accumulate(&mut self) {
        let n = self.n;
        for i in 0..n - 1 {
            let diagonal = self.at(i, i);
            self.set(n - 1, i, diagonal);
            self.set(i, i, 1.0);
            let h = self.d[i + 1];
            if h != 0.0 {
                for k in 0..=i {
                    self.d[k] = self.at(k, i + 1) / h;
                }
                for j in 0..=i {
                    let g: f64 = (0..=i).map(|k| self.at(k, i + 1) * self.at(k, j)).sum();
                    for k in 0..=i {
                        self.v[j * n + k] -= g * self.d[k];
                    }
                }
            }
            for k in 0..=i {
                self.set(k, i + 1, 0.0);
            }
        }
        for j in 0..n {
            self.d[j] = self.at(n - 1, j);
            self.set(n - 1, j, 0.0);
        }
        self.set(n - 1, n - 1, 1.0);
        self.e[0] = 0.0;
    }

    fn diagonalise(&mut self) {
        let n = self.n;
        self.e.rotate_left(1);
        self.e[n - 1] = 0.0;
        let mut shift = 0.0;
        let mut largest: f64 = 0.0;
        for l in 0..n {
            largest = largest.max(self.d[l].abs() + self.e[l].abs());
            let small = f64::EPSILON * largest;
            let m = (l..n).find(|&m| self.e[m].abs() <= small).unwrap_or(n - 1);
            for _ in 0..MAX_SWEEPS {
                if m == l || self.e[l].abs() <= small {
                    break;
                }
                shift += self.sweep(l, m);
            }
            self.d[l] += shift;
            self.e[l] = 0.0;
        }
    }

    /// One implicit QL sweep over rows `l..=m`; returns the shift it used.
    fn sweep(&mut self, l: usize, m: usize) -> f64 {
        let n = self.n;
        let g = self.d[l];
        let p = (self.d[l + 1] - g) / (2.0 * self.e[l]);
        let r = if p < 0.0 {
            -length(p, 1.0)
        } else {
            length(p, 1.0)
        };
        self.d[l] = self.e[l] / (p + r);
        self.d[l + 1] = self.e[l] * (p + r);
        let next = self.d[l + 1];
        let shift = g - self.d[l];
        for x in &mut self.d[l + 2..] {
            *x -= shift;
        }
        let mut p = self.d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let first = self.e[l + 1];
        for i in (l..m).rev() {
            c3 = c2;
            c2 = c;
            s2 = s;
            let g = c * self.e[i];
            let h = c * p;
            let r = length(p, self.e[i]);
            self.e[i + 1] = s * r;
            s = self.e[i] / r;
            c = p / r;
            p = c * self.d[i] - s * g;
            self.d[i + 1] = h + s * (c * g + s * self.d[i]);
            let (left, right) = self.v.split_at_mut((i + 1) * n);
            for (x, y) in left[i * n..].iter_mut().zip(&mut right[..n]) {
                let h = *y;
                *y = s * *x + c * h;
                *x = c * *x - s * h;
            }
        }
        p = -s * s2 * c3 * first * self.e[l] / next;
        self.e[l] = s * p;
        self.d[l] = c * p;
        shift
    }
}

/// `√(a² + b²)`; the entries here are far from the ends of the range.
fn length(a: f64, b: f64) -> f64 {
    (a * a + b * b).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_rebuilt_and_the_vectors_are_orthonormal() {
        for n in [1usize, 2, 3, 7, 20, 64] {
            let entry = |i: usize, j: usize| {
                let (i, j) = (i.min(j), i.max(j));
                ((i * 31 + j * 17 + i * j) % 23) as f64 / 7.0 - 1.5
            };
            let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            let Eigen { values, vectors } = decompose(&matrix, n);
            for i in 0..n {
                for j in 0..n {
                    let rebuilt: f64 = (0..n)
                        .map(|m| values[m] * vectors[m * n + i] * vectors[m * n + j])
                        .sum();
                    assert!(
                        (rebuilt - matrix[i * n + j]).abs() < 1e-11 * n as f64,
                        "n {n} at {i} {j}"
                    );
                    let dot: f64 = (0..n)
                        .map(|r| vectors[i * n + r] * vectors[j * n + r])
                        .sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12 * n as f64);
                }
            }
        }
    }

    #[test]
    fn equal_rows_and_zeros_are_no_trouble() {
        let Eigen { mut values, .. } = decompose(&[1.0; 9], 3);
        values.sort_by(f64::total_cmp);
        assert!(
            values[0].abs() < 1e-14 && values[1].abs() < 1e-14 && (values[2] - 3.0).abs() < 1e-14
        );
        assert_eq!(decompose(&[0.0; 16], 4).values, [0.0; 4]);
    }
}
