"""Spec -> Plan: the flat list of system calls that skerry-init performs. Pure: nothing here touches the world."""
