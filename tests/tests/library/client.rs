//! Clients: the route, the model.

use crate::scripted;
use mx::{Client, Error, ErrorKind, ExecutionMode, GenerateRequest, Route};
use mx_runtime::source::Store;
use mx_tests::scripted::Script;

#[test]
fn where_requests_run() {
    use ExecutionMode::{Auto, Local, Remote};
    // Mode, whether there is a key and a model, and what becomes of the request; nobody listens at the address.
    for (mode, key, model, expected) in [
        (Auto, false, true, Ok(Route::Local)),
        (Auto, true, true, Ok(Route::Fallback)),
        (Auto, true, false, Err(ErrorKind::Remote)),
        (Auto, false, false, Err(ErrorKind::ModelNotFound)),
        (Local, true, true, Ok(Route::Local)),
        (Local, false, true, Ok(Route::Local)),
        (Local, true, false, Err(ErrorKind::ModelNotFound)),
        (Remote, true, true, Ok(Route::Fallback)),
        (Remote, false, true, Err(ErrorKind::InvalidRequest)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = Script::says("\nab").write(folder.path());
        let mut builder = Client::builder().base_url("http://127.0.0.1:9");
        if model {
            builder = builder.model(path.display().to_string());
        }
        let mut client = builder.build();
        if model {
            client.load().unwrap();
        }
        client.set_execution_mode(mode);
        if key {
            client.set_key("secret-key");
        }
        let result = client.request("hello").max_tokens(1).run();
        let given = result
            .map(|answer| answer.route)
            .map_err(|error| error.kind());
        assert_eq!(given, expected, "{mode:?}, key {key}, model {model}");
        assert!(
            !format!("{client:?}").contains("secret-key"),
            "a key never prints"
        );
    }
    assert!(matches!(
        Client::builder().build().generate("x"),
        Err(Error::NoModel)
    ));
    assert!(matches!(
        Client::builder().build().load(),
        Err(Error::NoModel)
    ));
}

#[test]
fn a_model_is_loaded_unloaded_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = Script::says("\nab").write(folder.path());
    let mut client = Client::builder().model(path.display().to_string()).build();
    assert_eq!(
        client.generate("x").unwrap_err().kind(),
        ErrorKind::Unsupported,
        "named, not loaded"
    );
    client.load().unwrap();
    client.load().unwrap();
    assert_eq!(client.generate("x").unwrap(), "ab");
    client.unload();
    assert!(client.model().is_none() && client.generate("x").is_err());
    client.load().unwrap();
    assert_eq!(client.generate("x").unwrap(), "ab");
    let other = folder.path().join("other.gguf");
    Script::says("\ncd").write_to(&other);
    client.set_model(other.display().to_string());
    assert!(client.model().is_none(), "the one before is unloaded");
    client.load().unwrap();
    assert_eq!(client.generate("x").unwrap(), "cd");
}

#[test]
fn models_that_cannot_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let load = |model: &str, store: bool| {
        let mut builder = Client::builder().model(model);
        if store {
            let env = |name: &str| (name == "MX_OFFLINE").then(|| "1".to_owned());
            builder = builder.from_env(&env).store(Store::new(folder.path()));
        }
        builder.build().load().unwrap_err()
    };
    assert_eq!(
        load("smollm2", false).kind(),
        ErrorKind::Unsupported,
        "no folder for models was given"
    );
    assert_eq!(
        load("/nowhere/m.gguf", false).kind(),
        ErrorKind::ModelNotFound
    );
    assert_eq!(
        load("/nowhere/m.gguf", true).kind(),
        ErrorKind::ModelNotFound
    );
    assert_eq!(load("nonsense", true).kind(), ErrorKind::ModelNotFound);
    assert_eq!(load("smollm2", true).kind(), ErrorKind::SourceUnreachable);
    assert_eq!(load("", true).kind(), ErrorKind::InvalidRequest);
}

#[test]
fn one_client_serves_many_threads() {
    let client = scripted(&Script::says("\nabc"));
    std::thread::scope(|scope| {
        let answers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.generate("x").unwrap()))
            .collect();
        answers
            .into_iter()
            .for_each(|answer| assert_eq!(answer.join().unwrap(), "abc"));
    });
}

#[test]
fn setters_of_a_request_are_those_of_the_data() {
    let client = Client::builder().build();
    let built = client
        .request("x")
        .system("s")
        .raw(false)
        .max_tokens(3)
        .temperature(0.5)
        .top_k(4)
        .top_p(0.9);
    let built = built
        .min_p(0.1)
        .seed(7)
        .stop("a")
        .stop("b")
        .include_trace(true)
        .into_inner();
    let data = GenerateRequest::new("x")
        .system("s")
        .raw(false)
        .max_tokens(3)
        .temperature(0.5)
        .top_k(4)
        .top_p(0.9);
    assert_eq!(
        built,
        data.min_p(0.1)
            .seed(7)
            .stop("a")
            .stop("b")
            .include_trace(true)
    );
}
