package bench_test

import (
	"fmt"
	"testing"

	"github.com/goccy/go-yaml"

	"skep/generator/bench"
	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/spec"
	"skep/generator/stack"
)

var sizes = []int{1, 20, 1000}

// BenchmarkGenerate is everything from files to bytes, Docker's validation
// included; the stages follow one by one.
func BenchmarkGenerate(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		for b.Loop() {
			validate(b, expanded(b, load(b, dir)))
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		for b.Loop() {
			load(b, dir)
		}
	})
}

func BenchmarkExpand(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		cluster := load(b, dir)
		for b.Loop() {
			expanded(b, cluster)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		out := expanded(b, load(b, dir))
		for b.Loop() {
			validate(b, out)
		}
	})
}

// BenchmarkYardstick is a bare parse and marshal of one stack file.
func BenchmarkYardstick(b *testing.B) {
	text := []byte(bench.Stack(1))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var v yaml.MapSlice
		if err := yaml.Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
		if _, err := yaml.Marshal(v); err != nil {
			b.Fatal(err)
		}
	}
}

func each(b *testing.B, run func(*testing.B, string)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("stacks=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			if _, err := bench.Write(dir, n); err != nil {
				b.Fatal(err)
			}
			run(b, dir)
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/stack")
		})
	}
}

func load(b *testing.B, dir string) *stack.Cluster {
	cluster, problems := spec.Load(b.Context(), dir, spec.Options{})
	if cluster == nil || problems.Failed() {
		b.Fatal(problems)
	}
	return cluster
}

func expanded(b *testing.B, cluster *stack.Cluster) *bundle.Bundle {
	out, err := expand.Expand(cluster)
	if err != nil {
		b.Fatal(err)
	}
	if err := out.Encode(); err != nil {
		b.Fatal(err)
	}
	return out
}

func validate(b *testing.B, out *bundle.Bundle) {
	for name, err := range out.Validate() {
		b.Fatal(name, err)
	}
}
