//! Activation steering: vectors that are made, applied, measured and trusted.
