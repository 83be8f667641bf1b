//! Who is behind a SCSI generic node: `sg_inquiry /dev/sgN`, or any other node of the device; `sg_inquiry --serial SERIAL`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use sealtape_drivers::scsi::{Command, Form, PageControl, StandardInquiry};
use sealtape_drivers::sg::{Changer, Data, ScsiTapeDrive, SgDevice, Sharing, Transport};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut device = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--serial", serial] => SgDevice::by_serial(serial, Sharing::Shared)?,
        [node] => SgDevice::open(Path::new(node), Sharing::Exclusive)?,
        _ => return Err("usage: sg_inquiry NODE | --serial SERIAL".into()),
    };
    println!(
        "{} at {}, device type {}, {} bytes a command",
        device.name(),
        device.address(),
        device.device_type(),
        device.largest_transfer()
    );
    let limit = Duration::from_secs(20);
    let mut bytes = [0; 252];
    let inquiry = Command::Inquiry { vital_product_data: false, page: 0, allocation: 252 };
    let answer = device.execute(inquiry.encode().as_bytes(), Data::In(&mut bytes), limit)?;
    let told = StandardInquiry::parse(bytes.get(..answer.transferred).unwrap_or(&bytes))?;
    println!("{} {} {}, {} bytes", told.vendor, told.product, told.revision, answer.transferred);
    let ready = device.execute(Command::TestUnitReady.encode().as_bytes(), Data::None, limit)?;
    println!("TEST UNIT READY: {:?}", ready.completion);
    let page = Command::ModeSense {
        form: Form::Ten,
        no_block_descriptors: true,
        control: PageControl::Current,
        page: 0x3e,
        subpage: 0,
        allocation: 252,
    };
    let refused = device.execute(page.encode().as_bytes(), Data::In(&mut bytes), limit)?;
    println!("MODE SENSE of page 3Eh: {:?}", refused.completion);
    match device.device_type() {
        1 => println!("{:#?}", ScsiTapeDrive::open(device)?),
        8 => println!("{:#?}", Changer::open(device)?.inventory()?),
        _ => match ScsiTapeDrive::open(device) {
            Err(error) => println!("as a tape drive: {error}"),
            Ok(_) => return Err("a device of another type was taken for a tape drive".into()),
        },
    }
    Ok(())
}
