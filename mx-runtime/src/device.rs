//! Devices, chosen by name when the program runs.

use burn::prelude::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device by name: `flex` (pure Rust on the CPU, the default), `ndarray`, `wgpu`, `vulkan`, `cuda`.
///
/// GPU names take a selection after a colon: `cuda:1`; `wgpu:0` is the first discrete GPU, `wgpu:integrated`,
/// `wgpu:virtual` and `wgpu:cpu` (a software device) the first of their kind; without one the best is taken.
/// All but `flex` need the crate feature of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum DeviceId {
    /// burn-flex: pure Rust on the CPU.
    #[default]
    Flex,
    /// burn-ndarray on the CPU.
    Ndarray,
    /// wgpu with WGSL kernels: Vulkan, Metal, DirectX or a software device.
    Wgpu(Adapter),
    /// Vulkan with SPIR-V kernels, for real GPUs.
    Vulkan(Adapter),
    /// CUDA device by its index.
    Cuda(usize),
}

/// Which adapter of a wgpu device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Adapter {
    /// The best one found.
    #[default]
    Best,
    /// A discrete GPU by its index.
    Discrete(usize),
    /// The first integrated GPU.
    Integrated,
    /// The first virtual GPU.
    Virtual,
    /// A software device.
    Cpu,
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is not that of a device.
    #[error("device {given:?} is unknown; known: {}", DeviceId::KNOWN)]
    Unknown {
        /// The name given.
        given: String,
    },
    /// The program was built without it.
    #[error("device {device} is not in this build; build with `--features {feature}`")]
    NotBuilt {
        /// The device.
        device: DeviceId,
        /// The missing feature.
        feature: &'static str,
    },
    /// The machine has no such device, or its driver does not start.
    #[error("device {device} cannot be opened: {reason}")]
    Unavailable {
        /// The device.
        device: DeviceId,
        /// What the driver says.
        reason: String,
    },
}

/// A device that this build knows, for `mx devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// The name to choose it by.
    pub id: DeviceId,
    /// What it is.
    pub description: &'static str,
    /// Whether it can be opened here, and if not why.
    pub state: Result<(), String>,
}

impl DeviceId {
    /// The forms of a device name, for help texts.
    pub const KNOWN: &'static str =
        "flex, ndarray, wgpu[:N|:integrated|:virtual|:cpu], vulkan[:N|…], cuda[:N]";

    /// Opens the device and runs one small computation on it.
    ///
    /// # Errors
    /// [`DeviceError`] when it is not built in or does not answer.
    pub fn open(self) -> Result<Device, DeviceError> {
        let device = self.handle()?;
        if matches!(self, DeviceId::Flex | DeviceId::Ndarray) {
            return Ok(device);
        }
        // GPU runtimes start at first use and report a missing driver by a panic.
        let probe = device.clone();
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let one = burn::prelude::Tensor::<1>::from_floats([1.0], &probe);
            (one + 1.0).into_scalar::<f32>()
        }));
        match answer {
            Ok(2.0) => Ok(device),
            Ok(other) => Err(self.unavailable(format!("1 + 1 gave {other}"))),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("the driver stopped without a message");
                Err(self.unavailable(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }

    /// Every kind of device, and whether it can be opened in this build on this machine.
    pub fn list() -> Vec<DeviceInfo> {
        let kinds = [
            (DeviceId::Flex, "pure Rust on the CPU"),
            (DeviceId::Ndarray, "ndarray on the CPU"),
            (
                DeviceId::Wgpu(Adapter::Best),
                "wgpu with WGSL kernels (Vulkan, Metal, DirectX, software)",
            ),
            (
                DeviceId::Vulkan(Adapter::Best),
                "Vulkan with SPIR-V kernels",
            ),
            (DeviceId::Cuda(0), "NVIDIA CUDA"),
        ];
        let state = |id: DeviceId| {
            id.open().map(|_| ()).map_err(|error| match error {
                DeviceError::NotBuilt { feature, .. } => {
                    format!("not in this build (feature {feature})")
                }
                DeviceError::Unavailable { reason, .. } => reason,
                other => other.to_string(),
            })
        };
        kinds
            .map(|(id, description)| DeviceInfo {
                id,
                description,
                state: state(id),
            })
            .into()
    }

    fn unavailable(self, reason: String) -> DeviceError {
        DeviceError::Unavailable {
            device: self,
            reason,
        }
    }

    #[allow(unreachable_code, reason = "which arms return depends on the features")]
    fn handle(self) -> Result<Device, DeviceError> {
        let feature = match self {
            DeviceId::Flex => return Ok(Device::flex()),
            DeviceId::Ndarray => {
                #[cfg(feature = "ndarray")]
                #[allow(
                    deprecated,
                    reason = "burn steers new code to flex; this is the second CPU backend to test against"
                )]
                return Ok(Device::ndarray());
                "ndarray"
            }
            DeviceId::Wgpu(_adapter) => {
                #[cfg(feature = "wgpu")]
                return Ok(Device::wgpu(_adapter.into()));
                "wgpu"
            }
            DeviceId::Vulkan(_adapter) => {
                #[cfg(feature = "vulkan")]
                return Ok(Device::vulkan(_adapter.into()));
                "vulkan"
            }
            DeviceId::Cuda(_index) => {
                #[cfg(feature = "cuda")]
                return Ok(Device::cuda(_index));
                "cuda"
            }
        };
        Err(DeviceError::NotBuilt {
            device: self,
            feature,
        })
    }
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
impl From<Adapter> for burn::tensor::DeviceKind {
    fn from(adapter: Adapter) -> Self {
        match adapter {
            Adapter::Best => Self::DefaultDevice,
            Adapter::Discrete(index) => Self::DiscreteGpu(index),
            Adapter::Integrated => Self::IntegratedGpu(0),
            Adapter::Virtual => Self::VirtualGpu(0),
            Adapter::Cpu => Self::Cpu,
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, adapter) = match self {
            DeviceId::Flex => return f.write_str("flex"),
            DeviceId::Ndarray => return f.write_str("ndarray"),
            DeviceId::Cuda(index) => return write!(f, "cuda:{index}"),
            DeviceId::Wgpu(adapter) => ("wgpu", adapter),
            DeviceId::Vulkan(adapter) => ("vulkan", adapter),
        };
        match adapter {
            Adapter::Best => f.write_str(name),
            Adapter::Discrete(index) => write!(f, "{name}:{index}"),
            Adapter::Integrated => write!(f, "{name}:integrated"),
            Adapter::Virtual => write!(f, "{name}:virtual"),
            Adapter::Cpu => write!(f, "{name}:cpu"),
        }
    }
}

impl FromStr for DeviceId {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown {
            given: text.chars().take(80).collect(),
        };
        let (name, selection) = match text.split_once(':') {
            Some((name, selection)) => (name, Some(selection)),
            None => (text, None),
        };
        let index = |selection: &str| selection.parse::<usize>().map_err(|_| unknown());
        let adapter = || match selection {
            None => Ok(Adapter::Best),
            Some("integrated") => Ok(Adapter::Integrated),
            Some("virtual") => Ok(Adapter::Virtual),
            Some("cpu") => Ok(Adapter::Cpu),
            Some(other) => Ok(Adapter::Discrete(index(other)?)),
        };
        match name {
            "flex" if selection.is_none() => Ok(DeviceId::Flex),
            "ndarray" if selection.is_none() => Ok(DeviceId::Ndarray),
            "wgpu" => Ok(DeviceId::Wgpu(adapter()?)),
            "vulkan" => Ok(DeviceId::Vulkan(adapter()?)),
            "cuda" => Ok(DeviceId::Cuda(selection.map_or(Ok(0), index)?)),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "flex",
            "ndarray",
            "wgpu",
            "wgpu:0",
            "wgpu:cpu",
            "vulkan:integrated",
            "cuda:1",
        ] {
            assert_eq!(
                name.parse::<DeviceId>().map(|id| id.to_string()),
                Ok(name.to_owned())
            );
        }
        for wrong in ["", "gpu", "cuda:x", "flex:0", "wgpu:"] {
            assert!(wrong.parse::<DeviceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn flex_is_always_there() {
        assert!(DeviceId::Flex.open().is_ok());
        assert!(
            DeviceId::list()
                .iter()
                .any(|info| info.id == DeviceId::Flex && info.state.is_ok())
        );
    }
}
