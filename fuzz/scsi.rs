//! What the SCSI fuzz targets and `drivers/tests/scsi_fuzz.rs` feed: each function takes any bytes, which the types may refuse.
//! What they read, they write again in a form that says the same; and they keep no more than they were given.

use sealtape_drivers::scsi::{
    AttributeIds, AttributeValues, BlockLengthLimits, Command, CommandSupport, DensitySupport, ElementStatus, Form,
    LogBody, LogPage, LogicalUnits, MaximumLogicalObject, MediaSerialNumber, MediumTypeSupport, ModePage,
    ModeParameters, NumberRange, PartitionRecord, PositionData, Sense, StandardInquiry, SupportedCommands,
    TapeCapacity, TaskManagement, Timestamp, Vpd,
};

/// What a host sends as a command descriptor block.
pub(crate) fn scsi_command(data: &[u8]) {
    match Command::parse(data) {
        Ok(command) => assert_eq!(Command::parse(command.encode().as_bytes()), Ok(command)),
        Err(refused) => drop(refused.sense().to_fixed()),
    }
}

/// What a drive sends as sense data.
pub(crate) fn scsi_sense(data: &[u8]) {
    let Some(sense) = Sense::parse(data) else { return };
    assert_eq!(Sense::parse(&sense.to_descriptor()), Some(sense));
    let fixed = Sense::parse(&sense.to_fixed()).expect("fixed format");
    assert_eq!((fixed.key, fixed.additional, fixed.flags, fixed.field), {
        (sense.key, sense.additional, sense.flags, sense.field)
    });
    let _ = sense.to_string();
}

/// What a host sends with MODE SELECT, LOG SELECT, WRITE ATTRIBUTE and SET TIMESTAMP.
pub(crate) fn scsi_parameter_list(data: &[u8]) {
    for form in [Form::Six, Form::Ten] {
        if let Ok(list) = ModeParameters::parse_list(form, data) {
            assert!(list.pages.iter().map(|page| page.to_bytes().len()).sum::<usize>() <= data.len());
            assert_eq!(ModeParameters::parse_list(form, &list.to_list(form)), Ok(list));
        }
    }
    if let Ok((page, length)) = LogPage::parse_list(data) {
        assert!(length <= data.len());
        log_page(&page, length);
    }
    if let Ok(list) = AttributeValues::parse_list(data) {
        attributes(&list, data.len());
    }
    let _ = Timestamp::parse(data);
}

/// What a drive or a changer sends as data.
pub(crate) fn scsi_data(data: &[u8]) {
    if let Ok(inquiry) = StandardInquiry::parse(data) {
        assert_eq!(StandardInquiry::parse(&inquiry.to_bytes()), Ok(inquiry));
    }
    if let Ok((peripheral, page)) = Vpd::parse(data) {
        assert_eq!(Vpd::parse(&page.to_bytes(peripheral)), Ok((peripheral, page)));
    }
    positions(data);
    for form in [Form::Six, Form::Ten] {
        if let Ok(parameters) = ModeParameters::parse(form, data) {
            let kept = |page: &ModePage| if let ModePage::Other { bytes, .. } = page { bytes.len() + 2 } else { 2 };
            assert!(parameters.pages.iter().map(kept).sum::<usize>() <= data.len());
            let _ = parameters.to_bytes(form);
        }
    }
    if let Ok(page) = ModePage::parse(data) {
        assert_eq!(ModePage::parse(&page.to_bytes()), Ok(page));
    }
    if let Ok(page) = LogPage::parse(data) {
        log_page(&page, data.len());
    }
    if let Ok(list) = AttributeValues::parse(data) {
        attributes(&list, data.len());
    }
    if let Ok(ids) = AttributeIds::parse(data) {
        assert!(2 * ids.0.len() <= data.len());
        assert_eq!(AttributeIds::parse(&ids.to_bytes()), Ok(ids));
    }
    elements(data);
    reports(data);
}

fn positions(data: &[u8]) {
    if let Ok(position) = PositionData::parse_short(data) {
        assert_eq!(PositionData::parse_short(&position.to_short()).map(|read| read.location), Ok(position.location));
        assert_eq!(PositionData::parse_extended(&position.to_extended()), Ok(position));
    }
    if let Ok(position) = PositionData::parse_long(data) {
        assert_eq!(PositionData::parse_long(&position.to_long()), Ok(position));
        // What the short form cannot say, it does not say wrongly.
        let short = PositionData::parse_short(&position.to_short()).expect("short form");
        assert!(short.location.is_none_or(|place| Some(place.first) == position.location.map(|place| place.first)));
    }
    if let Ok(position) = PositionData::parse_extended(data) {
        assert_eq!(PositionData::parse_extended(&position.to_extended()), Ok(position));
    }
    if let Ok(limits) = BlockLengthLimits::parse(data) {
        assert_eq!(BlockLengthLimits::parse(&limits.to_bytes()), Ok(limits));
    }
    let _ = MaximumLogicalObject::parse(data);
}

fn log_page(page: &LogPage, given: usize) {
    let kept = match &page.body {
        LogBody::Pages(pages) => pages.len(),
        LogBody::Subpages(pages) => 2 * pages.len(),
        LogBody::Parameters(parameters) => parameters.iter().map(|parameter| 4 + parameter.value.len()).sum(),
    };
    assert!(kept <= given);
    assert_eq!(LogPage::parse(&page.to_bytes()).as_ref(), Ok(page));
    let _ = (page.tape_alert_flags(), TapeCapacity::from_page(page));
    for parameter in page.parameters() {
        assert!(PartitionRecord::list(parameter).len() <= parameter.value.len() / 5);
        let _ = (parameter.number(), parameter.text());
    }
}

fn attributes(list: &AttributeValues, given: usize) {
    assert!(list.0.iter().map(|one| 5 + one.attribute.value.len()).sum::<usize>() <= given);
    assert_eq!(AttributeValues::parse(&list.to_bytes()).as_ref(), Ok(list));
    list.0.iter().for_each(|one| drop((one.text(), one.number())));
}

fn elements(data: &[u8]) {
    assert!(ElementStatus::wanted(data) >= 8);
    let Ok(status) = ElementStatus::parse(data) else { return };
    assert!(status.pages.len() <= data.len() / 8 && status.elements().count() <= data.len() / 12);
    for (_, element) in status.elements() {
        let _ = (element.barcode(), element.drive_serial());
    }
    assert_eq!(ElementStatus::parse(&status.to_bytes()), Ok(status));
}

fn reports(data: &[u8]) {
    if let Ok(list) = DensitySupport::parse(data) {
        assert!(52 * list.0.len() <= data.len());
        assert_eq!(DensitySupport::parse(&list.to_bytes()), Ok(list));
    }
    if let Ok(list) = MediumTypeSupport::parse(data) {
        assert!(56 * list.0.len() <= data.len());
        assert_eq!(MediumTypeSupport::parse(&list.to_bytes()), Ok(list));
    }
    if let Ok(list) = SupportedCommands::parse(data) {
        assert!(8 * list.0.len() <= data.len());
        assert_eq!(SupportedCommands::parse(&list.to_bytes()), Ok(list));
    }
    if let Ok(one) = CommandSupport::parse(data) {
        assert!(one.usage.len() <= data.len());
        assert_eq!(CommandSupport::parse(&one.to_bytes()), Ok(one));
    }
    if let Ok(functions) = TaskManagement::parse(data) {
        assert_eq!(TaskManagement::parse(&functions.to_bytes(true)), Ok(functions));
    }
    if let Ok(units) = LogicalUnits::parse(data) {
        assert!(8 * units.0.len() <= data.len());
    }
    if let Ok(serial) = MediaSerialNumber::parse(data) {
        assert_eq!(MediaSerialNumber::parse(&serial.to_bytes()), Ok(serial));
    }
    let _ = (NumberRange::parse(data), Timestamp::parse(data));
}
