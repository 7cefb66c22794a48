#![allow(clippy::unwrap_used)]
use super::*;

fn vector(values: &[(usize, [f32; 2])]) -> SteeringVector {
    let directions = values
        .iter()
        .map(|(layer, v)| (Site::ResidPost.at(*layer), v.to_vec()))
        .collect();
    SteeringVector::new(Method::Caa, directions).unwrap()
}

#[test]
fn the_id_follows_the_numbers_alone() {
    let a = vector(&[(1, [1.0, 2.0])]);
    let id = a.id();
    assert!(id.starts_with("sv_") && id.len() == 3 + ID_LETTERS);
    assert_eq!(a.clone().named("other").id(), id);
    assert_ne!(a.scaled(2.0).unwrap().id(), id);
    assert_ne!(vector(&[(2, [1.0, 2.0])]).id(), id);
}

#[test]
fn a_model_that_does_not_fit_is_named_with_both_numbers() {
    let mut v = vector(&[(4, [1.0, 2.0])]);
    let text = |v: &SteeringVector, d, l| v.check(&ModelShape::new(d, l)).unwrap_err().to_string();
    assert!(text(&v, 3, 9).contains("2 numbers") && text(&v, 3, 9).contains("wanted is 3"));
    assert!(text(&v, 2, 4).contains("layer 4 does not exist, the model has 4 layers"));
    v.model.layers = Some(12);
    assert!(text(&v, 2, 9).contains("12 layers, this one has 9"));
    v.model.name = Some("a".into());
    let mut model = ModelShape::new(2, 12);
    assert!(v.check(&model).unwrap().is_empty());
    model.name = Some("b".into());
    assert!(matches!(
        &v.check(&model).unwrap()[..],
        [Warning::OtherModel { .. }]
    ));
}

#[test]
fn vectors_form_a_vector_space() {
    let (a, b) = (
        vector(&[(1, [1.0, 2.0])]),
        vector(&[(1, [3.0, -2.0]), (2, [1.0, 0.0])]),
    );
    let sum = a.plus(&b).unwrap();
    assert_eq!(sum.direction(Site::ResidPost.at(1)), Some(&[4.0, 0.0][..]));
    assert_eq!(sum.layers(), [1, 2]);
    assert_eq!(
        sum.unit()
            .unwrap()
            .norms()
            .values()
            .copied()
            .collect::<Vec<_>>(),
        [1.0, 1.0]
    );
    assert_eq!(b.of_layers(&[2]).unwrap().layers(), [2]);
    assert!(
        b.of_layers(&[3])
            .unwrap_err()
            .to_string()
            .contains("resid_post.1, resid_post.2")
    );
    assert!((a.cosines(&b)[&Site::ResidPost.at(1)] + 1.0 / (5.0f64 * 13.0).sqrt()).abs() < 1e-6);
    assert!(a.scaled(1e38).unwrap().scaled(1e38).is_err());
}

#[test]
fn moving_and_relabelling_differ() {
    let v = vector(&[(1, [1.0, 2.0])]);
    assert_eq!(
        v.moved_to(Site::ResidPre).unwrap().points().next(),
        Some(Site::ResidPre.at(2))
    );
    let quirk = v.relabelled(Site::ResidPre).unwrap();
    assert_eq!(quirk.points().next(), Some(Site::ResidPre.at(1)));
    assert_eq!(quirk.provenance.read_at, Some(Site::ResidPost));
}

#[test]
fn bad_directions_are_refused() {
    let at = Site::ResidPost.at(0);
    let new = |rows, values: Vec<f32>| {
        SteeringVector::with_rows(Method::Caa, rows, [(at, values)].into())
    };
    assert!(new(1, vec![]).is_err());
    assert!(new(0, vec![1.0]).is_err());
    assert!(new(2, vec![1.0; 3]).is_err());
    assert!(new(1, vec![f32::NAN]).is_err());
    assert!(SteeringVector::new(Method::Caa, BTreeMap::new()).is_err());
    assert_eq!(new(2, vec![1.0; 6]).unwrap().d_model(), 3);
}

#[test]
fn methods_keep_their_names() {
    for (name, method) in origin::METHODS {
        assert_eq!(Method::from(name.to_owned()), method);
        assert_eq!(method.name(), name);
    }
    assert_eq!(Method::from("few_shot".to_owned()), Method::FewShot);
    assert_eq!(Method::from("mine".to_owned()).name(), "mine");
}
