//! Refuses numbers that JSON has not, before they silently become `null`.

use crate::error::Error;
use serde::Serialize;
use serde::ser;
use std::fmt;

/// Nesting of a request that is looked into.
const MAX_DEPTH: usize = 128;

/// Checks that every number of a request is finite.
pub(crate) fn finite(value: &impl Serialize) -> Result<(), Error> {
    let mut path = Vec::new();
    value
        .serialize(Walk { path: &mut path })
        .map_err(|problem| match problem {
            Problem::Number(field, given) => Error::bad_request(field, given, "a finite number"),
            Problem::Depth(field) => {
                Error::bad_request(field, "nested too deeply", "at most 128 levels")
            }
            Problem::Other(text) => Error::bad_request("request", text, "data that JSON can hold"),
        })
}

#[derive(Debug)]
enum Problem {
    Number(String, f64),
    Depth(String),
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Problem {}

impl ser::Error for Problem {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Problem::Other(text.to_string())
    }
}

struct Walk<'a> {
    path: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn inside<T: Serialize + ?Sized>(&mut self, name: String, value: &T) -> Result<(), Problem> {
        if self.path.len() >= MAX_DEPTH {
            return Err(Problem::Depth(self.path.join(".")));
        }
        self.path.push(name);
        value.serialize(Walk { path: self.path })?;
        self.path.pop();
        Ok(())
    }

    fn number(&self, number: f64) -> Result<(), Problem> {
        if number.is_finite() {
            Ok(())
        } else {
            Err(Problem::Number(self.path.join("."), number))
        }
    }
}

/// A compound and the position in it.
struct Inside<'a> {
    walk: Walk<'a>,
    index: usize,
    key: String,
}

impl<'a> Inside<'a> {
    fn new(walk: Walk<'a>) -> Result<Self, Problem> {
        Ok(Inside {
            walk,
            index: 0,
            key: String::new(),
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        let name = self.index.to_string();
        self.index += 1;
        self.walk.inside(name, value)
    }
}

macro_rules! nothing {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, _: $kind) -> Result<(), Problem> { Ok(()) })*
    };
}

impl<'a> ser::Serializer for Walk<'a> {
    type Ok = ();
    type Error = Problem;
    type SerializeSeq = Inside<'a>;
    type SerializeTuple = Inside<'a>;
    type SerializeTupleStruct = Inside<'a>;
    type SerializeTupleVariant = Inside<'a>;
    type SerializeMap = Inside<'a>;
    type SerializeStruct = Inside<'a>;
    type SerializeStructVariant = Inside<'a>;

    nothing!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str);

    fn serialize_f32(self, number: f32) -> Result<(), Problem> {
        self.number(f64::from(number))
    }
    fn serialize_f64(self, number: f64) -> Result<(), Problem> {
        self.number(number)
    }
    fn serialize_none(self) -> Result<(), Problem> {
        Ok(())
    }
    fn serialize_unit(self) -> Result<(), Problem> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Problem> {
        value.serialize(self)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Problem> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Problem> {
        self.inside(name.to_owned(), value)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Problem> {
        Inside::new(self)
    }
}

macro_rules! elements {
    ($($kind:ident $method:ident),*) => {
        $(impl ser::$kind for Inside<'_> {
            type Ok = ();
            type Error = Problem;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
                self.element(value)
            }
            fn end(self) -> Result<(), Problem> {
                Ok(())
            }
        })*
    };
}

macro_rules! fields {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Inside<'_> {
            type Ok = ();
            type Error = Problem;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Problem> {
                self.walk.inside(key.to_owned(), value)
            }
            fn end(self) -> Result<(), Problem> {
                Ok(())
            }
        })*
    };
}

elements!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);
fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Inside<'_> {
    type Ok = ();
    type Error = Problem;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Problem> {
        self.key = match serde_json::to_value(key) {
            Ok(serde_json::Value::String(key)) => key,
            Ok(other) => other.to_string(),
            Err(e) => return Err(Problem::Other(e.to_string())),
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Problem> {
        let key = std::mem::take(&mut self.key);
        self.walk.inside(key, value)
    }
    fn end(self) -> Result<(), Problem> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Inner {
        list: Vec<Option<f64>>,
        #[serde(flatten)]
        more: BTreeMap<String, f32>,
    }

    #[derive(Serialize)]
    struct Outer {
        inner: Inner,
        other: (u8, f64, Option<&'static str>),
    }

    #[test]
    fn numbers_that_json_has_not_are_named() {
        let case = |number: f64, more: f32| Outer {
            inner: Inner {
                list: vec![None, Some(number)],
                more: BTreeMap::from([("x".to_owned(), more)]),
            },
            other: (1, 0.5, None),
        };
        finite(&case(1.0, 2.0)).unwrap();
        let text = |outer: Outer| finite(&outer).unwrap_err().to_string();
        assert_eq!(
            text(case(f64::NAN, 0.0)),
            "inner.list.1 is NaN, wanted a finite number"
        );
        assert_eq!(
            text(case(0.0, f32::INFINITY)),
            "inner.x is inf, wanted a finite number"
        );
        let mut deep = serde_json::json!(1);
        for _ in 0..200 {
            deep = serde_json::json!([deep]);
        }
        assert!(text_of(&deep).contains("at most 128 levels"));
    }

    fn text_of(value: &serde_json::Value) -> String {
        finite(value).unwrap_err().to_string()
    }
}
