package deploy

import (
	"fmt"
	"strings"
	"testing"

	"skep/generator/stack"
)

// BenchmarkCompare plans a cluster that is as it should be, in stacks of ten.
func BenchmarkCompare(b *testing.B) {
	for _, services := range []int{50, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("version: \"3.8\"\nservices:\n")
			for i := range 10 {
				fmt.Fprintf(&text, `  app%[1]d:
    image: registry.example.org/team/app%[1]d:1.2.3
    environment: {LOG_LEVEL: info, DB_HOST: postgresql, DB_USER: app%[1]d}
    volumes: ["data%[1]d:/data"]
    healthcheck: {test: [CMD, wget, -qO-, "http://localhost:8080/"], interval: 30s}
    deploy:
      labels: {caddy: app%[1]d.example.com, caddy.reverse_proxy: "{{upstreams 8080}}", caddy.import: security}
      resources: {limits: {cpus: "0.5", memory: 256M}}
      update_config: {parallelism: 1, order: start-first, failure_action: rollback}
`, i)
			}
			text.WriteString("volumes: {")
			for i := range 10 {
				fmt.Fprintf(&text, "data%d: {}, ", i)
			}
			text.WriteString("}\n")
			one := release(b, text.String())
			p := Project{}
			for i := range services / 10 {
				r := one
				r.Stack = stack.Name(fmt.Sprintf("stack%d", i))
				p.Releases = append(p.Releases, r)
			}
			engine := newFake()
			o := quick()
			o.NoWait = true
			if _, err := Deploy(b.Context(), engine, p, o); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				plan, err := Compare(p, engine.state, Scope{})
				if err != nil || !plan.Empty() {
					b.Fatalf("%v, %v", err, plan.Summary())
				}
			}
		})
	}
}
