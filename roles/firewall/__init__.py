"""Ray's ports, and those of the engines, open to the hosts of the rack alone: one nftables table of rayrack's own."""
