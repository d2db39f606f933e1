//go:build !race

package controller

// many services are a large cluster.
const many = 1000
