//! Support of the suites that cut the power and break the services.

pub(crate) mod site;
