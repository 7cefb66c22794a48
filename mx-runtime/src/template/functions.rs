//! What chat templates call beyond plain Jinja.

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, State, Value};

use super::date::DateTime;
use super::error::Marker;
use super::json::{self, Style};

/// Adds `raise_exception`, `tojson` and a test that the engine answers differently from Python.
pub(super) fn add(environment: &mut Environment<'static>, nesting: usize) {
    environment.add_function("raise_exception", raise_exception);
    // Templates tell messages without content by `none` not being iterable.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_filter(
        "tojson",
        move |state: &State, value: &Value, indent: Option<Value>, options: Kwargs| {
            let text = json::write(value, &style(indent, &options)?, nesting)?;
            state.consume_fuel(text.len() as u64 / 64)?;
            Ok::<_, Error>(text)
        },
    );
}

/// `strftime_now` for a rendering that takes `date` for now.
pub(super) fn strftime_now(date: Option<DateTime>) -> Value {
    Value::from_function(move |format: &str| -> Result<String, Error> {
        match date {
            Some(date) => Ok(date.format(format)),
            None => Err(Marker::MissingDate.into()),
        }
    })
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Marker::Raised(message.to_string()).into())
}

fn style(indent: Option<Value>, options: &Kwargs) -> Result<Style, Error> {
    let indent = match indent {
        Some(indent) => indent,
        None => options.get::<Option<Value>>("indent")?.unwrap_or_default(),
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let ascii = options
        .get::<Option<bool>>("ensure_ascii")?
        .unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    Style::new(&indent, separators, ascii, sorted)
}
