"""What the test suites share: building rootfs and spec, driving a runtime, looking for leaks."""
