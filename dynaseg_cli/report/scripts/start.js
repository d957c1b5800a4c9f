showHead();
showFailures();
showAbout();
showTools();
prepareDialog();
refresh();
sentinel.observe(byId("more"));
followHash();
