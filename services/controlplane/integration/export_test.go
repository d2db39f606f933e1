package integration

// Refuse is tried by itself, as no test may reach what it keeps away from.
var Refuse = refuse
