//! Where a redirect may lead.

use super::shown;
use crate::error::{Error, Result};
use reqwest::header::LOCATION;
use reqwest::{Method, Response, Url};

/// The next address of a redirecting answer; nothing when it is not one.
///
/// A request without a body is followed anywhere but from https to http; whether it then carries the credentials is
/// decided by its origin. A request with a body is followed only to the same server, and only by a redirect that keeps
/// it.
pub(super) fn next(method: &Method, url: &Url, answer: &Response) -> Result<Option<Url>> {
    let status = answer.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
    target(method, url, status, location).map(Some)
}

fn target(method: &Method, url: &Url, status: u16, location: Option<&str>) -> Result<Url> {
    let refused = |to: String, reason| Error::Redirect {
        url: shown(url),
        to,
        reason,
    };
    let Some(location) = location else {
        return Err(refused("nowhere".into(), "it names no readable address"));
    };
    let Ok(mut to) = url.join(location) else {
        return Err(refused("nowhere".into(), "it names no address"));
    };
    let readable = to.set_username("").is_ok() && to.set_password(None).is_ok();
    let place = shown(&to);
    if !readable || !matches!(to.scheme(), "http" | "https") || !to.has_host() {
        return Err(refused(place, "it is not an http or https address"));
    }
    if url.scheme() == "https" && to.scheme() == "http" {
        return Err(refused(place, "it leads from https to http"));
    }
    if method != Method::GET {
        if to.origin() != url.origin() {
            return Err(refused(
                place,
                "it would carry the request's text to another server",
            ));
        }
        if !matches!(status, 307 | 308) {
            return Err(refused(place, "it would drop the request's text"));
        }
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules() {
        let from = Url::parse("https://h/a/b").unwrap();
        let to = |method: Method, status, location: &str| {
            target(&method, &from, status, Some(location))
                .map(|u| u.to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(to(Method::GET, 302, "/c?x=1").unwrap(), "https://h/c?x=1");
        assert_eq!(
            to(Method::GET, 302, "https://u:p@other/c").unwrap(),
            "https://other/c"
        );
        assert_eq!(to(Method::POST, 307, "c").unwrap(), "https://h/a/c");
        for (method, status, location, reason) in [
            (Method::GET, 302, "http://h/c", "from https to http"),
            (Method::GET, 302, "file:///etc/passwd", "not an http"),
            (Method::GET, 302, "data:,x", "not an http"),
            (Method::POST, 302, "/c", "drop the request's text"),
            (
                Method::POST,
                307,
                "https://other/c?key=1",
                "to another server",
            ),
            (Method::DELETE, 308, "https://h:444/c", "to another server"),
        ] {
            let error = to(method, status, location).unwrap_err();
            assert!(
                error.contains(reason) && !error.contains("key=1"),
                "{error}"
            );
        }
        assert!(target(&Method::GET, &from, 302, None).is_err());
    }
}
