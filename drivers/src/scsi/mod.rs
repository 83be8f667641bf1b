//! SCSI wire types. Names are those of SPC-4, SSC-4 and SMC-3; numbers are as the standards print them.
//!
//! One type serves both directions: what the virtual drive answers, and what the real one says. `parse` is total and bounded:
//! it refuses what is too short to mean anything, takes less than everything where a device may send less, and never
//! keeps more than it was given. `to_bytes` gives the whole structure; cutting it to the allocation length is the unit's matter.

mod command;
mod density;
mod element;
mod inquiry;
mod limits;
mod log;
mod mam;
mod mode;
mod mode_pages;
mod mode_tape_pages;
mod opcodes;
mod position;
mod reports;
mod sense;
mod sense_text;
mod sense_wire;
mod tape_alert;
mod unit;
mod vpd;
mod wire;

pub use command::{Cdb, CdbError, Command, Destination, Form, PageControl, cdb_length};
pub use density::{Density, DensitySupport, MediumTypeDescriptor, MediumTypeSupport};
pub use element::{Element, ElementPage, ElementStatus, ElementType, VolumeTag};
pub use inquiry::{Peripheral, StandardInquiry, VERSION_SPC_4, version};
pub use limits::{BlockLengthLimits, MaximumLogicalObject};
pub use log::{
    LogBody, LogPage, LogParameter, PartitionRecord, TapeCapacity, data_compression, error_counter, log_page,
    sequential_access, volume_statistics,
};
pub use mam::{
    AttributeIds, AttributeValues, MamAttribute, NumberRange, attribute, attribute_action, attribute_format,
};
pub use mode::{BlockDescriptor, ModePage, ModeParameters};
pub use mode_pages::{
    Control, ControlExtension, DisconnectReconnect, InformationalExceptions, PowerCondition, ReadWriteErrorRecovery,
};
pub use mode_tape_pages::{
    ControlDataProtection, DataCompression, DeviceConfiguration, DeviceConfigurationExtension, MediumConfiguration,
    MediumPartition,
};
pub use opcodes::{CommandSupport, CommandTimeouts, Support, SupportedCommand, SupportedCommands, TaskManagement};
pub use position::{Location, PositionData};
pub use reports::{LogicalUnits, MediaSerialNumber, Timestamp};
pub use sense::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey};
pub use sense_text::additional_text;
pub use tape_alert::TapeAlertFlags;
pub use unit::{Completion, DataIn, LogicalUnit, Status};
pub use vpd::{Designator, ExtendedInquiry, Vpd, vpd_page};
pub use wire::WireError;
