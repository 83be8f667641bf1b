//! The virtual drive: logical units served to this kernel (and behind it to iSCSI or Fibre Channel) by `target_core_user`.
