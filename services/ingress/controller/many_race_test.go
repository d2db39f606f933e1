//go:build race

package controller

// many is less under the race detector, which makes Caddy ten times slower.
const many = 200
