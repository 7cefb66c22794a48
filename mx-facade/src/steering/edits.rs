//! From the edits of mx-steering to those of the engines: the same primitive under two names, since the two crates do
//! not know each other.

use mx_runtime::hooks::{Edit, Gate, HookPoint, Term, TokenClass};
use mx_steering::{Point, Site, apply};

pub(super) fn edit(edit: &apply::Edit) -> Edit {
    Edit {
        point: point(edit.point),
        tokens: tokens(edit.tokens),
        terms: edit
            .terms
            .iter()
            .map(|term| Term {
                a: term.a,
                b: term.b,
                u: term.u.clone(),
                w: term.w.clone(),
            })
            .collect(),
        gate: edit.gate.as_ref().map(|gate| Gate {
            direction: gate.direction.clone(),
            threshold: gate.threshold,
        }),
        keep_norm: edit.keep_norm,
    }
}

pub(super) fn point(point: Point) -> HookPoint {
    match point.site {
        Site::ResidPre => HookPoint::ResidPre(point.layer),
        Site::AttnOut => HookPoint::AttnOut(point.layer),
        Site::ResidMid => HookPoint::ResidMid(point.layer),
        Site::MlpOut => HookPoint::MlpOut(point.layer),
        Site::ResidPost => HookPoint::ResidPost(point.layer),
    }
}

/// Classes of a compiled plan: ranges are absolute there, those that count from the end of the prompt are resolved.
fn tokens(class: apply::TokenClass) -> TokenClass {
    match class {
        apply::TokenClass::All => TokenClass::All,
        apply::TokenClass::PromptOnly => TokenClass::PromptOnly,
        apply::TokenClass::LastPrompt => TokenClass::LastPrompt,
        apply::TokenClass::GeneratedOnly => TokenClass::GeneratedOnly,
        apply::TokenClass::FromLastPrompt => TokenClass::FromLastPrompt,
        apply::TokenClass::SkipFirst => TokenClass::SkipFirst,
        apply::TokenClass::Range { .. } => {
            let positions = class.positions(0);
            TokenClass::Range {
                start: positions.start,
                end: positions.end,
            }
        }
    }
}
