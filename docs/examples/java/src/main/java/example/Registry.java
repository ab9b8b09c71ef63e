package example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.Schema;

/** The schemas of schemas/registry.json, which is on the class path, by id. An id never changes its meaning. */
final class Registry {
  private final Map<Integer, Schema> schemas = new HashMap<>();

  Registry() {
    try (InputStream file = Registry.class.getResourceAsStream("/registry.json")) {
      for (JsonNode entry : new ObjectMapper().readTree(file)) {
        schemas.put(entry.get("id").intValue(), new Schema.Parser().parse(entry.get("schema").toString()));
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  Schema schema(int id) {
    Schema schema = schemas.get(id);
    if (schema == null) {
      throw new IllegalArgumentException("schema id " + id + " is not in registry.json: is yours older than the writer's?");
    }
    return schema;
  }

  /** The id of the newest version that this class can be written with: the one with its very fields. */
  int idOf(Schema wanted) {
    return schemas.entrySet().stream()
        .filter(entry -> bare(entry.getValue()).equals(bare(wanted)))
        .mapToInt(Map.Entry::getKey)
        .max()
        .orElseThrow(() -> new IllegalArgumentException(wanted.getFullName() + " is not in registry.json"));
  }

  /** Names and types alone: generated classes add properties of Java's to theirs. */
  private static String bare(Schema schema) {
    return org.apache.avro.SchemaNormalization.toParsingForm(schema);
  }
}
