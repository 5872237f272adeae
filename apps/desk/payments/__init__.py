"""Who of a link is to be approved, paid in part or asked to return; panel files and reconciliation; recontact (docs/sample.md)."""
