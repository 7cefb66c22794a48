//! The engines that every model golden runs on.

use mx_runtime::device::DeviceId;
use mx_runtime::engine::Engine;
use mx_runtime::engine::cpu::{CpuEngine, CpuOptions};
use mx_runtime::files::ModelFiles;
use std::sync::Arc;

/// A name and an engine, or why it could not be loaded.
pub(super) type Named = (&'static str, Result<Arc<dyn Engine>, String>);

/// The burn engine on `device`; on the CPU also the CPU engine in its exact mode, where its kernels can hold the model.
pub(super) fn of(files: &ModelFiles, device: DeviceId) -> Vec<Named> {
    let burn = files
        .burn_engine(device)
        .map(|engine| Arc::new(engine) as Arc<dyn Engine>);
    let mut engines: Vec<Named> = vec![("burn", burn.map_err(|error| error.to_string()))];
    if device == DeviceId::Flex && CpuEngine::supports(files.config()).is_ok() {
        let mut options = CpuOptions::default();
        options.exact = true;
        let cpu = files
            .cpu_engine(&options)
            .map(|engine| Arc::new(engine) as Arc<dyn Engine>);
        engines.push(("cpu", cpu.map_err(|error| error.to_string())));
    }
    engines
}
